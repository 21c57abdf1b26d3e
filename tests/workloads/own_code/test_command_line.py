"""The forms in which programs take their settings."""

import json

import pytest

from mnist_ablate.workloads.own_code.command_line import arguments, named_settings, takes_all

SETTINGS = {"lr": -0.1, "amp": True, "log": False, "note": "it's $HOME", "layers": "[1, 2]"}


@pytest.mark.parametrize(
    ("part", "filled"),
    [
        ("--lr={lr}", ["--lr=-0.1"]),
        ("lr={lr}", ["lr=-0.1"]),
        ("--amp={amp}", ["--amp=true"]),
        ("{amp?--amp}", ["--amp"]),
        ("{log?--log}", []),
        ("{log?--log:--no-log}", ["--no-log"]),
        ("{note}", ["it's $HOME"]),
        ("--layers={layers}", ["--layers=[1, 2]"]),
        ("--seed={seed}", ["--seed=3"]),
        ("{{literal}}", ["{literal}"]),
        ("", [""]),
    ],
)
def test_each_form_of_an_argument(tmp_path, part, filled):
    if part:
        assert arguments([part], SETTINGS, 3, tmp_path) == filled


def test_all_settings_come_as_one_text_or_as_a_file(tmp_path):
    text, option = arguments(["{settings}", "--config={settings_file}"], SETTINGS, 3, tmp_path / "new")
    assert json.loads(text) == SETTINGS
    assert json.loads((tmp_path / "new" / "settings.json").read_text()) == SETTINGS
    assert option == f"--config={tmp_path / 'new' / 'settings.json'}"


def test_the_settings_of_a_command_are_those_that_it_names():
    assert named_settings(["python", "{lr}", "{amp?--amp}", "{seed}", "--x={lr}{width}"]) == ["lr", "amp", "width"]


@pytest.mark.parametrize(
    ("command", "takes"),
    [(["run"], True), (["run", "{seed}"], True), (["run", "{lr}"], False), (["run", "{lr}", "{settings_file}"], True)],
)
def test_a_command_that_names_no_setting_can_read_all_of_them(command, takes):
    assert takes_all(command) is takes
