# Tests on other kernels, under software emulation. Included by the Makefile at the top.
#   make vm-test                         all kernels, as root and as an ordinary user
#   make vm-test VM_ARGS='--kernel 6.1 --as user -- tests/container/test_run.py'
#   make vm-probe                        what each kernel does, one fact a line
VM_PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
VM_ARGS ?=
VM_CACHE = $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(if $(filter 0,$(shell id -u)),/var/cache,$(HOME)/.cache))/pyminicon-vm

.PHONY: vm-prepare vm-test vm-probe
vm-prepare:
	bash tests/vm/prepare.sh

vm-test: vm-prepare
	$(VM_PYTHON) tests/vm/suite.py $(VM_ARGS)

$(VM_CACHE)/probe: $(wildcard tests/vm/probe/*)
	mkdir -p $(VM_CACHE)
	$(CC) -D_GNU_SOURCE -O1 -Wall -Wextra -Wno-unused-result -static -o $@ $(filter %.c,$^)

vm-probe: vm-prepare $(VM_CACHE)/probe
	for kernel in 6.1 newest; do for user in "" --user; do \
	    $(VM_PYTHON) tests/vm/run.py -v --kernel $$kernel $$user --append syscall.x32=y -- $(VM_CACHE)/probe; done; done

# A Debian that systemd booted: the limits in every way of being started. One command there: see systemd/boot.py.
SYSTEMD_ARGS ?=
.PHONY: systemd-image systemd-test systemd-trixie
systemd-image: vm-prepare
	$(VM_PYTHON) tests/vm/systemd/image.py

systemd-test: vm-prepare
	$(VM_PYTHON) tests/vm/systemd/walk.py $(SYSTEMD_ARGS)

systemd-trixie: vm-prepare
	$(VM_PYTHON) tests/vm/systemd/walk.py --suite trixie $(SYSTEMD_ARGS)
