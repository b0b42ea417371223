"""The run folder, its tables, and published numbers."""

from odenas.results.output import write_table
from odenas.results.published import published
from odenas.results.ranking import leaderboard
from odenas.results.run import Run, load
from odenas.results.summary import summary

__all__ = ["Run", "leaderboard", "load", "published", "summary", "write_table"]
