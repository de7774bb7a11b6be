import os

import gin
import pytest

from feelvos_tf.core import gin_settings, settings
from feelvos_tf.core.errors import InputError


@gin.configurable
def _settings_probe(required, optional=3):
    return required, optional


@gin.configurable
def _probe_that_fails():
    raise InputError("frames/00000.jpg: expected an image, found text")


@settings.configurable
class _FastGadget:
    def __init__(self, variables, rate=0):
        self.settings = variables, rate


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


def test_single_bindings_override_files_and_later_files_earlier_ones(tmp_path):
    first, second = tmp_path / "1.gin", tmp_path / "2.gin"
    first.write_text("_settings_probe.required = 1\n_settings_probe.optional = 1\n")
    second.write_text("_settings_probe.optional = 2\n")
    gin_settings.parse([str(first), str(second)], [])
    assert _settings_probe() == (1, 2)
    gin_settings.parse([str(first), str(second)], ["_settings_probe.optional = 5"])
    assert _settings_probe() == (1, 5)


@pytest.mark.parametrize(
    ("binding", "hint"),
    [
        ("outputstride = 8", "did you mean output_stride"),
        ("optional = 8", "did you mean _settings_probe.optional"),
        ("nonsense = 8", "macros in use: output_stride"),
    ],
)
def test_a_macro_that_no_setting_uses_is_refused(tmp_path, binding, hint):
    file = tmp_path / "model.gin"
    file.write_text("output_stride = 16\n_settings_probe.required = %output_stride\n")
    file.write_text(file.read_text() + "_settings_probe.optional = 1\n")
    with pytest.raises(InputError, match=f"{binding.split()[0]}: expected .*{hint}"):
        gin_settings.parse([str(file)], [binding])
    gin_settings.parse([str(file)], ["output_stride = 8"])
    assert _settings_probe() == (8, 1)


def test_macros_that_nothing_sets_are_reported_together(tmp_path):
    file = tmp_path / "data.gin"
    file.write_text("_settings_probe.required = [%one, %two]\n")
    with pytest.raises(InputError) as caught:
        gin_settings.parse([str(file)], [])
    assert "expected a value for one and two" in str(caught.value)
    assert "\n" not in str(caught.value)
    gin_settings.parse([str(file)], ["one = 1", "two = '%three'"])
    assert _settings_probe()[0] == [1, "%three"]


def test_parsing_keeps_earlier_bindings_and_can_override_them():
    """Including bindings of a program that uses the package, and its lock on the settings."""
    gin.bind_parameter("_settings_probe.optional", 9)
    gin.finalize()
    gin_settings.parse([], ["_settings_probe.required = 1"])
    assert _settings_probe() == (1, 9)
    assert gin.config_is_locked()
    gin_settings.parse([], ["_settings_probe.optional = 8"])
    assert _settings_probe() == (1, 8)


def test_an_unused_macro_bound_by_the_program_is_accepted():
    gin.parse_config("theirs = 3")
    gin_settings.parse([], ["_settings_probe.required = 1"])
    assert _settings_probe() == (1, 3)


def test_gin_files_of_the_project_are_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(gin_settings, "PROJECT_ROOT", tmp_path)
    (tmp_path / "gin_configs").mkdir()
    (tmp_path / "gin_configs/inner.gin").write_text("_settings_probe.required = 7\n")
    (tmp_path / "gin_configs/outer.gin").write_text("include 'gin_configs/inner.gin'\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    gin_settings.parse(["gin_configs/outer.gin"], [])
    assert _settings_probe()[0] == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_settings_probe.required = = 3\n", "line 1"),
        ("_settings_probe.nonsense = 3\n", "nonsense"),
        ("no_such_thing.a = 3\n", "no_such_thing"),
        ("_settings_probe.required = @no_such_reference\n", "no_such_reference"),
        ("include 'no_such_file.gin'\n", "no_such_file.gin"),
        ("import no_such_module\n", "no_such_module"),
        ("_settings_probe.required = [1,\n", "bad.gin"),
    ],
)
def test_a_bad_gin_file_gives_one_line_that_names_it(tmp_path, text, expected):
    bad = tmp_path / "bad.gin"
    bad.write_text(text)
    with pytest.raises(InputError) as caught:
        gin_settings.parse([str(bad)], [])
    message = str(caught.value)
    assert expected in message
    assert "bad.gin" in message
    assert "\n" not in message


def test_a_missing_gin_file_and_a_bad_binding_give_one_line():
    with pytest.raises(InputError, match="nowhere.gin: expected a gin file"):
        gin_settings.parse(["nowhere.gin"], [])
    with pytest.raises(InputError, match="no_such_thing"):
        gin_settings.parse([], ["no_such_thing.a = 3"])


@pytest.mark.parametrize("param", ["no_such_thing.a = 3", "_settings_probe.optional = = 3"])
def test_a_mistake_in_a_flag_is_not_blamed_on_a_file(tmp_path, param):
    file = tmp_path / "good.gin"
    file.write_text("_settings_probe.required = 1\n")
    with pytest.raises(InputError) as caught:
        gin_settings.parse([str(file)], [param])
    assert str(caught.value).startswith(f"gin settings (--gin_param={param!r}): ")
    assert "good.gin" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("@SlowGadget", "did you mean _FastGadget[?]"),
        ("@_Fastgadgit()", "did you mean _FastGadget[?]"),
        ("@Nothing", "known names: .*_FastGadget"),
    ],
)
def test_an_unknown_name_is_answered_with_known_ones(value, hint):
    with pytest.raises(InputError, match=f"No configurable matching .*{hint}") as caught:
        gin_settings.parse([], [f"_settings_probe.required = {value}"])
    assert "\n" not in str(caught.value)


def test_a_class_that_must_be_bound_without_brackets_gets_a_hint():
    gin_settings.parse([], ["_settings_probe.required = @_FastGadget()"])
    with (
        pytest.raises(InputError, match="'variables'.*, or write @_FastGadget without brackets"),
        gin_settings.input_errors(),
    ):
        _settings_probe()


def test_settings_that_differ_from_those_of_a_run_are_named(tmp_path):
    file = tmp_path / "macro.gin"
    file.write_text("_settings_probe.required = %size\n")
    assert gin_settings.changed_since(tmp_path) == []
    gin_settings.parse([str(file)], ["size = (97, 97)", "_FastGadget.rate = 1"])
    _settings_probe()
    gin_settings.save_operative(tmp_path)
    assert gin_settings.changed_since(tmp_path) == []
    gin.clear_config()
    gin_settings.parse([str(file)], ["size = (33, 33)", "_settings_probe.optional = 5"])
    assert gin_settings.changed_since(tmp_path) == []
    _settings_probe()
    assert sorted(gin_settings.changed_since(tmp_path)) == [
        "_settings_probe.optional = 5, was 3",
        "size = (33, 33), was (97, 97)",
    ]


def test_all_bound_settings_are_listed_with_their_values():
    sizes = tuple(range(100))  # Longer than a line of a gin file.
    gin_settings.parse([], [f"size = {sizes}", "_settings_probe.required = %size"])
    assert gin_settings.bound() == {"size": str(sizes), "_settings_probe.required": "%size"}


def test_a_missing_required_binding_gives_one_line_naming_the_setting():
    gin_settings.parse([], ["_settings_probe.optional = 4"])
    with (
        pytest.raises(InputError, match="'required'.*_settings_probe") as caught,
        gin_settings.input_errors(),
    ):
        _settings_probe()
    assert "\n" not in str(caught.value)
    with (
        pytest.raises(InputError, match="'required'|required.*_settings_probe") as caught,
        gin_settings.input_errors(),
    ):
        _settings_probe(gin.REQUIRED)
    assert "\n" not in str(caught.value)


def test_bad_input_inside_a_configurable_keeps_its_own_sentence():
    with pytest.raises(InputError) as caught, gin_settings.input_errors():
        _probe_that_fails()
    assert str(caught.value) == "frames/00000.jpg: expected an image, found text"


def test_the_operative_config_reproduces_the_settings(tmp_path):
    gin_settings.parse([], ["_settings_probe.required = 'x'"])
    _settings_probe()
    gin_settings.save_operative(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == ["operative_config.gin"]
    assert "_settings_probe.optional = 3" in (tmp_path / "run/operative_config.gin").read_text()
    gin.clear_config()
    gin_settings.parse_model_dir(tmp_path / "run", ["_settings_probe.optional = 8"])
    assert _settings_probe() == ("x", 8)


def test_a_folder_without_a_training_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="operative_config.gin: expected the settings"):
        gin_settings.parse_model_dir(tmp_path, [])


def test_given_settings_override_all_settings_of_a_run(tmp_path):
    """Including those saved for the evaluated model, which contain its defaults."""
    gin_settings.parse(
        [], ["_settings_probe.required = 1", "evaluation/_settings_probe.optional = 5"]
    )
    _settings_probe()
    with gin_settings.evaluation_scope():
        assert _settings_probe() == (1, 5)
    gin_settings.save_operative(tmp_path)
    assert (
        "evaluation/_settings_probe.required = 1" in (tmp_path / "operative_config.gin").read_text()
    )
    override = tmp_path / "override.gin"
    override.write_text("given = 7\n_settings_probe.required = %given\n")
    gin_settings.parse_model_dir(tmp_path, [], [str(override)])
    with gin_settings.evaluation_scope():
        assert _settings_probe() == (7, 5)
    gin_settings.parse_model_dir(tmp_path, ["_settings_probe.optional = 9"], [str(override)])
    with gin_settings.evaluation_scope():
        assert _settings_probe() == (7, 9)
    in_scope = "evaluation/_settings_probe.optional = 2"
    gin_settings.parse_model_dir(tmp_path, [in_scope, "_settings_probe.optional = 4"])
    assert _settings_probe()[1] == 4
    with gin_settings.evaluation_scope():
        assert _settings_probe()[1] == 2


def test_a_block_of_settings_overrides_a_run_as_single_lines_do(tmp_path):
    gin_settings.parse([], ["_settings_probe.required = 1"])
    with gin_settings.evaluation_scope():
        _settings_probe()
    gin_settings.save_operative(tmp_path / "run")
    override = tmp_path / "override.gin"
    override.write_text("_settings_probe:\n  optional = 6\n")
    gin_settings.parse_model_dir(tmp_path / "run", [], [str(override)])
    with gin_settings.evaluation_scope():
        assert _settings_probe() == (1, 6)


def test_an_included_file_with_a_mistake_is_named_with_its_line(tmp_path):
    inner, outer = tmp_path / "inner.gin", tmp_path / "outer.gin"
    inner.write_text("\n\n_settings_probe.required = = 3\n")
    outer.write_text(f"_settings_probe.optional = 1\ninclude '{inner}'\n")
    with pytest.raises(InputError, match="inner.gin.*line 3"):
        gin_settings.parse([str(outer)], [])
    inner.write_text(f"include '{outer}'\n")
    with pytest.raises(InputError, match="the file includes itself"):
        gin_settings.parse([str(outer)], [])


def test_statements_around_an_include_keep_their_order(tmp_path):
    inner, outer = tmp_path / "inner.gin", tmp_path / "outer.gin"
    inner.write_text("_settings_probe.required = 2\n_settings_probe.optional = 2\n")
    outer.write_text(
        f"_settings_probe.required = 1\ninclude '{inner}'  # theirs\n_settings_probe.optional = [\n"
        "    3,\n]\n"
    )
    gin_settings.parse([str(outer)], [])
    assert _settings_probe() == (2, [3])
