"""The logs that Dask's servers keep in memory hold no data.

A record of an exception would keep the frames that have failed, and with them their arrays.
"""

from clusters import needs, run

needs("distributed")


def test_a_log_keeps_no_data(tmp_path):
    run(
        """
    import distributed.utils, weakref


    def fails(array):
        raise OSError("a peer was killed")


    def logged(logger):
        # The handler as Dask makes it, and another one of the user; what both say.
        handlers, seen = [distributed.utils.DequeHandler(), logging.Handler()], []
        handlers[1].emit = lambda record: seen.append(record.exc_info and record.exc_info[0])
        for one in handlers:
            logger.addHandler(one)
        array = np.zeros(3)
        known = weakref.ref(array)
        try:
            fails(array)
        except OSError:
            logger.exception("while it was sent to %s", "a peer")
        logger.info("no exception")
        for one in handlers:
            logger.removeHandler(one)
        assert seen[0] is OSError
        texts = [handlers[0].format(record) for record in handlers[0].deque]
        return known, handlers[0], texts


    def main():
        logger = logging.getLogger("a server")
        logger.propagate = False
        logger.setLevel("INFO")
        import onecopy.dask
        known, handler, plain = logged(logger)
        assert known() is not None  # so that this test can fail
        onecopy.dask.enable("16MiB")
        known, handler, texts = logged(logger)
        assert known() is None
        assert texts == plain and "Traceback" in texts[0] and "a peer was killed" in texts[0]
        onecopy.dask.disable()
        known, handler, texts = logged(logger)
        assert known() is not None and texts == plain
    """,
        tmp_path,
    )


def test_an_exception_in_the_log_holds_no_memory(tmp_path):
    """The log of a worker keeps 10,000 records. None of them may hold what a frame had."""
    run(
        """
    def fails():
        import onecopy as oc
        array = oc.zeros(MIB, "u1")
        try:
            raise OSError("a peer was killed")
        except OSError:
            logging.getLogger("distributed.worker").exception("while it was sent")


    def main():
        import onecopy.dask
        onecopy.dask.enable("64MiB")
        with cluster() as (client, (a, b)):
            client.run(fails, workers=[a])
            eventually(is_empty, "the pool to be empty")
            logs = client.get_worker_logs(workers=[a])[a]
            [text] = [text for _, text in logs if "while it was sent" in text]
            assert "Traceback" in text and "a peer was killed" in text
    """,
        tmp_path,
    )
