"""A reader's side: a transcript of requests and answers as one HTML page, without scripts and without a network.

    lines --read()--> [Cell | Stray, ...] --render()--> the page        transcript.py, page.py
                            text, MIME bundles --/                      texts.py, rich.py

Starts no session and needs none. What it needs beyond Python is the extra `view` in setup.cfg.
"""
