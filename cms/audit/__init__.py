"""
What an XMPP server can know of its own set-up, from its own side.

The daemon runs these checks at its start and logs what is wrong; C{cms check
--server} runs the same and shows everything.
"""
