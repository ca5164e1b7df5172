#!/usr/bin/env bash
# Makes the keys and the signature that crypto.rs is checked against, by openssl. The keys are of no use for anything else.
set -euo pipefail
cd "$(dirname "$0")"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out pkcs8.pem
openssl rsa -in pkcs8.pem -traditional -out pkcs1.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
printf %s header.claims | openssl dgst -sha256 -sign pkcs8.pem -out signature.bin
