module tls-peer

go 1.22
