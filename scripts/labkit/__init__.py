"""The lab: real Debian nodes on one machine, and ways to torment them.

Standard library only, so that `scripts/lab` runs before anything is installed. The demo, the
end-to-end tests and the bench are built on `lab.Lab` and `node.Node`.
"""
