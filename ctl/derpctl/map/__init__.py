"""The DERP map: model, canonical form, reading, rendering. Pure: no I/O, no clock."""
