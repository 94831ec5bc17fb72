"""Renders findings; computes nothing but the form of a number.

    RunFindings ──summary──▶ Summary ──▶ terminal, page, markdown, junit
         └──────────────────charts──▶ the page's drawings
         └──────────────────────────▶ results.db, findings.json

``summary.summarize`` is the only place where a number becomes text, so the terminal, the page,
report.md and junit.xml cannot disagree. ``formats`` holds the rules for numbers and for text that
came from outside: everything that a scenario, a client or a node chose (keys, values, messages) is
shortened and made printable there, and escaped again by each renderer for its own language.

``run_directory`` names, lists and finds the folders of runs and writes all outputs into one;
``results_db`` collects all runs in one SQLite file.
"""
