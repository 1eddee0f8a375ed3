"""TLS contexts, verification of certificates, the subjectAltName rule."""
