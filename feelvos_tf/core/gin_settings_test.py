import os

import gin
import pytest

from feelvos_tf.core import gin_settings
from feelvos_tf.core.errors import InputError


@gin.configurable
def _settings_probe(required, optional=3):
    return required, optional


@gin.configurable
def _probe_that_fails():
    raise InputError("frames/00000.jpg: expected an image, found text")


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    gin.clear_config()


def test_single_bindings_win_over_files_and_later_files_over_earlier_ones(tmp_path):
    first, second = tmp_path / "1.gin", tmp_path / "2.gin"
    first.write_text("_settings_probe.required = 1\n_settings_probe.optional = 1\n")
    second.write_text("_settings_probe.optional = 2\n")
    gin_settings.parse([str(first), str(second)], [])
    assert _settings_probe() == (1, 2)
    gin_settings.parse([str(first), str(second)], ["_settings_probe.optional = 5"])
    assert _settings_probe() == (1, 5)


def test_parsing_again_forgets_the_settings_before(tmp_path):
    gin_settings.parse([], ["_settings_probe.required = 1", "_settings_probe.optional = 9"])
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


def test_a_required_binding_that_is_missing_gives_one_line_naming_the_setting():
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
    written = gin_settings.save_operative(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == ["operative_config.gin"]
    assert "_settings_probe.optional = 3" in written.read_text()
    gin.clear_config()
    gin_settings.parse_model_dir(tmp_path / "run", ["_settings_probe.optional = 8"])
    assert _settings_probe() == ("x", 8)


def test_a_folder_without_a_training_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="operative_config.gin: expected the settings"):
        gin_settings.parse_model_dir(tmp_path, [])
