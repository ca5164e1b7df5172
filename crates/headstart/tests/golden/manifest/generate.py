"""Writes the Parquet manifests beside this file. Run: python generate.py   (pyarrow made the files checked in)"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
table = pa.table(
    {
        "path": ["images/1.png", "images/4.png", "images/sub/2.png", "nowhere.png"],
        "label": ["a b", "ü", "ü", "a b"],
        "weight": [1.0, 2.0, 3.0, 4.0],
        "split": ["train", None, "test", "train"],
    }
)
pq.write_table(table, HERE / "snappy.parquet", compression="snappy")
pq.write_table(table, HERE / "plain.parquet", compression="none", use_dictionary=False)
pq.write_table(table, HERE / "zstd.parquet", compression="zstd")
pq.write_table(table.select(["label", "weight"]), HERE / "columns.parquet")
