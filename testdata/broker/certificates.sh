#!/bin/sh
# Makes the certificates that docker-compose.yml needs, with OpenSSL: an authority, the server's
# certificate, and one for each of the broker's users given as arguments. Usage:
#
#     certificates.sh FOLDER USER...
#
# What is there already stays. They are for one's own machine only: any user of it can read the keys,
# since the broker in its container runs under another user id than who wants to use the others.
# (The tests make theirs themselves: e2e/rig/src/pki.rs.)
set -eu

cd "$1"
shift

issue() { # NAME EXTENSIONS: NAME-cert.pem and NAME-key.pem with NAME as common name
    [ ! -e "$1-cert.pem" ] || return 0
    openssl req -newkey rsa:2048 -nodes -keyout "$1-key.pem" -out request.pem -subj "/CN=$1"
    printf '%s\n' "$2" > extensions
    openssl x509 -req -in request.pem -days 3650 -CA ca.pem -CAkey ca-key.pem -CAcreateserial \
        -extfile extensions -out "$1-cert.pem"
    rm request.pem extensions
}

if [ ! -e ca.pem ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=broker-ca \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca-key.pem -out ca.pem
fi
issue server 'subjectAltName=DNS:localhost,DNS:host.docker.internal,DNS:rabbitmq,IP:127.0.0.1'
for user; do
    issue "$user" 'extendedKeyUsage=clientAuth'
done
chmod a+r ./*.pem
