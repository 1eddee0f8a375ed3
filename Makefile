# make demo         run the twelve steps for real, and show them
# make demo KEEP=1  the same, and leave it running until Ctrl-C
# make unit         the unit tests, with nothing installed but Python packages
# make test         everything that must pass; installs what it needs
# make bench        the XMPP server beside Prosody and ejabberd, into docs/performance.md
# make docs         write anew what docs/ has from the sources: faults, keys, states, commands
# make screenshots  write the pictures of docs/pages.md and docs/meeting.md anew, in Chromium
# make bundle       make what browsers get of cms/door/static/*.js and style.css
# make lint         only the formatter, the linter and the type checker
# make lock         write requirements/*.lock anew after a change of setup.cfg;
#                   with UPGRADE=1 take the newest of everything
# make clean        remove whatever the others made
#
# All need Python 3.11 or later; PYTHON=/path/to/python chooses one.  What they
# install goes into .venv, .venv-bench (of the bench), .venv-oldest (of the oldest
# versions), .venv-lock and peers/npm/node_modules, but for Debian packages.

.PHONY: help demo unit test bench docs screenshots bundle lint lock clean

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

demo:
	@.ci/environment run
	@.venv/bin/cms demo $(if $(KEEP),--keep)

unit:
	@.ci/environment test
	@.ci/check unit

test:
	@.ci/debian python
	@.ci/environment test
	@.ci/environment oldest
	@.ci/debian peers
	@.ci/npm
	@.ci/suites
	@.ci/check lint covered oldest peers

bench:
	@.ci/debian python
	@.ci/environment bench
	@.ci/debian bench
	@.venv-bench/bin/python -m bench $(ARGS)

docs:
	@.ci/environment run
	@PYTHONPATH=. .venv/bin/python -m cms.faults.explain docs/troubleshooting.md
	@PYTHONPATH=. .venv/bin/python -m cms.configuration.document docs/configuration.md
	@PYTHONPATH=. .venv/bin/python -m tests.statepages
	@mkdir -p build
	@.venv/bin/cms man --markdown >build/commands.md
	@mv build/commands.md docs/commands.md

screenshots:
	@.ci/debian python
	@.ci/environment test
	@.ci/debian peers
	@.ci/npm
	@mkdir -p build
	@CMS_SCREENSHOTS=docs PYTHONPATH=. .venv/bin/pytest --basetemp=build/peers peers/test_pages.py \
		peers/test_door_screens.py

bundle:
	@.ci/bundle

lint:
	@.ci/environment test
	@.ci/check lint

lock:
	@UPGRADE=$(UPGRADE) .ci/lock

clean:
	rm -rf .venv .venv-bench .venv-oldest .venv-lock .venv-cache build dist cms.egg-info peers/npm/node_modules _trial_temp*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis twisted/plugins/dropin.cache
	find cms twisted tests peers bench -name __pycache__ -type d -prune -exec rm -rf {} +
