import pytest
from absl import flags

from feelvos_tf.core.errors import InputError
from feelvos_tf.data import dataset_flags
from feelvos_tf.testing import drawn_videos


def parse(*arguments, **settings):
    flag_values = flags.FlagValues()
    defined = dataset_flags.define(flag_values, "Folder of the data set.", **settings)
    flag_values(["program", *arguments])
    return defined


def test_flags_default_to_davis_2017():
    assert parse().choice() == dataset_flags.Choice(None, "davis_2017", "val", "480p", None)
    assert parse(split="train").choice().split == "train"


def test_only_flags_on_the_command_line_count_as_given():
    assert parse().given() == {}
    given = parse("--dataset_root=D", "--year=2016", "--sequences=bear,boat").given()
    assert given == {"root": "D", "dataset": "davis_2016", "sequences": ["bear", "boat"]}


def test_a_year_of_another_data_set_is_refused():
    assert parse("--dataset=davis_2016", "--year=2016").choice().dataset == "davis_2016"
    for dataset, year, fitting in (
        ("davis_2016", "2017", "davis_2017"),
        ("youtube_vos", "2016", "davis_2016"),
    ):
        sentence = f"^--year={year}: expected --dataset={fitting} or none, found {dataset}$"
        with pytest.raises(InputError, match=sentence):
            parse(f"--dataset={dataset}", f"--year={year}").choice()
    with pytest.raises(flags.IllegalFlagValueError):
        parse("--dataset=no_such")


def test_the_choice_lists_its_sequences(tmp_path):
    root = drawn_videos.write_davis(tmp_path, {"a": [1], "b": [1]})
    found = parse(f"--dataset_root={root}", "--sequences=b").choice().list_sequences()
    assert [sequence.name for sequence in found] == ["b"]
    with pytest.raises(InputError, match="expected --dataset_root"):
        parse().choice().list_sequences()
