"""The command line `arbe`: one file per noun, one function per verb.

Commands only ask the API (through `dispatch.client`) and show the answer; nothing is decided
here. Results go to stdout, everything else (progress, hints, errors) to stderr.
"""
