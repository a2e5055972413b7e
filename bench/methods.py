"""The index methods that are measured: how each is created, and which setting trades recall for speed."""

import math
from dataclasses import dataclass, field

OPERATORS = {"l2": "<->", "ip": "<#>", "cosine": "<=>"}
OURS = "spfresh"
BASELINE = "none"      # the table without an index, for write rates


@dataclass(frozen=True)
class Method:
    """One rival.  `knob` is the setting that is swept; `presets` are settings measured as they stand."""
    name: str
    access_method: str
    options: object            # function: number of rows -> text for WITH (...), or ""
    knob: str
    highest: object            # function: number of rows -> largest sensible value of the knob
    sweep: tuple               # values of the knob for the recall/throughput curve
    presets: tuple = field(default=({},))
    stats: str = ""            # function(regclass) of one row of figures, kept in the results
    check: str = ""            # function(regclass) that raises when an index is damaged, called after the writes

    def create_statement(self, table, data, name):
        """CREATE INDEX for a table of the data set's column type and metric."""
        options = self.options(data.rows)
        return (f"CREATE INDEX {name} ON {table} USING {self.access_method} "
                f"(v {data.column_type}_{data.metric}_ops)" + (f" WITH ({options})" if options else "") + ";")


def ivfflat_lists(rows):
    """pgvector's advice: rows / 1000 up to a million rows, the square root above."""
    return max(10, rows // 1000) if rows <= 1_000_000 else int(math.sqrt(rows))


METHODS = {
    "spfresh": Method(
        "spfresh", "spfresh", lambda rows: "", "spfresh.nprobe", lambda rows: max(64, min(8192, rows // 16)),
        (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
        ({}, {"spfresh.target_recall": 0.9}, {"spfresh.target_recall": 0.99}),
        "spfresh_stats", "spfresh_check"),
    "hnsw": Method(
        "hnsw", "hnsw", lambda rows: "m = 16, ef_construction = 64", "hnsw.ef_search", lambda rows: 1000,
        (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1000)),
    "ivfflat": Method(
        "ivfflat", "ivfflat", lambda rows: f"lists = {ivfflat_lists(rows)}", "ivfflat.probes", ivfflat_lists,
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)),
}


def label(settings):
    """A short name of a point: its settings, or `default`."""
    return ", ".join(f"{name.split('.')[-1]} {value}" for name, value in settings.items()) or "default"
