# wscast - one Makefile. `make help` lists the targets.
