"""What if: a log of a training, replayed under other policies. Needs no Redis and no running service.

`read` makes a `Log` of a file, `judge` asks each policy about it step by step, `calibrate` holds predicted pass rates
against those that came, `result` puts it all together; `table`, `plot` and `files` show it.
"""
