"""Reports: the results of a benchmark as one self-contained HTML file (``autotts report``)."""

from autotts_gym.report.writer import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]
