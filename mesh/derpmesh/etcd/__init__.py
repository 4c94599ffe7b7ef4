"""Talks to etcd: keys, leases and watches, over the endpoints of one cluster."""
