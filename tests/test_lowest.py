"""tests/lowest.txt, which `make test-lowest` installs, has the lowest versions that setup.cfg allows."""

from configparser import ConfigParser

from conftest import ROOT
from packaging.requirements import Requirement


def test_the_lowest_versions_are_those_of_setup_cfg():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    wanted = {}
    for requirement in map(Requirement, filter(None, lines)):
        for bound in requirement.specifier:
            assert bound.operator == ">="
            wanted[requirement.name] = bound.version
    pinned = {}
    for line in (ROOT / "tests" / "lowest.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            pinned[name] = version
    assert pinned.keys() == wanted.keys()
    for name, version in wanted.items():  # 4.10.0.84 is the lowest 4.10, 3.9.0 the lowest 3.9
        assert pinned[name] == version or pinned[name].startswith(f"{version}."), name
