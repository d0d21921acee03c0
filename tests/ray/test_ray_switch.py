"""`onecopy.ray.init` without a cluster: untested versions, wrong arguments, settings."""

import pytest
from rays import needs, run

needs()
pytestmark = pytest.mark.timeout(330)

# It says what it got, and starts nothing.
NOTHING_STARTS = """
    got = []
    ray.init = lambda *args, **options: got.append((args, options)) or "context"

    def warned():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert onecopy.ray.init("auto", num_cpus=1) == "context"
        assert got == [(("auto",), {"num_cpus": 1})] and not onecopy.ray.enabled()
        [one] = [w for w in caught if w.category is onecopy.ray.UntestedVersionWarning]
        assert one.filename == __file__, one
        assert np.ndarray not in ray.cloudpickle.CloudPickler.dispatch
        return str(one.message)
"""


@pytest.mark.parametrize("version", ["2.59.1", "2.60.1", "3.0.0.dev0"])
def test_another_version_warns_and_starts_plain_ray(tmp_path, version):
    run(
        NOTHING_STARTS
        + f"""
    def main():
        ray.__version__ = {version!r}
        assert {version!r} in warned()
    """,
        tmp_path,
    )


def test_a_missing_name_warns_and_starts_plain_ray(tmp_path):
    run(
        NOTHING_STARTS
        + """
    def main():
        import ray.experimental.rdt
        del ray.experimental.rdt.register_tensor_transport
        assert "ray.experimental.rdt.register_tensor_transport" in warned()
    """,
        tmp_path,
    )


def test_wrong_arguments(tmp_path):
    run(
        NOTHING_STARTS
        + """
    def main():
        oc.Pool.create("theirs", size="8MiB", persistent=True).close()
        readonly = oc.Pool("theirs", mode="r")
        for error, options in (
            (ValueError, {"threshold": "many"}),
            (TypeError, {"pool": "theirs"}),
            (PermissionError, {"pool": readonly}),
        ):
            try:
                onecopy.ray.init(**options)
            except error:
                continue
            raise AssertionError(options)
        assert got == []
        readonly.close()
        oc.Pool("theirs").unlink()
    """,
        tmp_path,
    )


def test_settings_survive_the_environment_and_a_worker_without_them_stays_plain(tmp_path):
    run(
        """
    def main():
        from onecopy._core.membership import handle_of
        from onecopy.ray.sharing import VARIABLE, Settings
        pool = oc.Pool.create(size="8MiB")
        for settings in (
            Settings(handle_of(pool.member), 1 << 20, True),
            Settings((b"x" * 16, "/no/such/pool", False, 1, 2), 5, False),
        ):
            assert Settings.load(settings.dump()) == settings
        onecopy.ray.setup()
        assert not onecopy.ray.enabled()
        for wrong in (settings.dump(), "[]", "{", '[["zz"], 1, 2]'):  # the last one is on no host
            os.environ[VARIABLE] = wrong
            onecopy.ray.setup()
            assert not onecopy.ray.enabled(), wrong
    """,
        tmp_path,
    )
