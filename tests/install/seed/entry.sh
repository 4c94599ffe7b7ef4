#!/bin/sh
# What the entry of camllia/derper does, unless it is told otherwise.
# shellcheck disable=SC3028 # HOSTNAME is the image's variable, not the shell's
set -eu
certificates=/root/derper-certs
if ! [ -e "$certificates/$HOSTNAME.crt" ] || ! [ -e "$certificates/$HOSTNAME.key" ]; then
    mkdir -p "$certificates"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
        -subj "/CN=$HOSTNAME" -addext "subjectAltName=IP:$HOSTNAME" \
        -keyout "$certificates/$HOSTNAME.key" -out "$certificates/$HOSTNAME.crt"
fi
exec derper -a :443 -http-port 80 -stun-port 3478 -hostname "$HOSTNAME" \
    -certmode manual -certdir "$certificates" -verify-clients=true
