"""Unsafe code: where it is, and that it cannot spread unseen."""

import re
import tomllib

from tools.steps import ROOT

CRATES = ROOT / "crates"
ROW = re.compile(r"^\| `(crates/[^`]+\.rs)` \| (\d+) \| (.+) \|$", re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*")
UNSAFE = re.compile(r"\bunsafe\b")


def test_every_use_is_listed_with_what_it_is_for() -> None:
    found = {
        str(path.relative_to(ROOT)): count
        for path in sorted(CRATES.glob("*/src/**/*.rs"))
        if (count := len(UNSAFE.findall(COMMENT.sub("", path.read_text()))))
    }
    rows = ROW.findall((ROOT / "SECURITY.md").read_text())
    assert {file: int(count) for file, count, _ in rows} == found
    assert [file for file, _, reason in rows if len(reason) < 20] == []


def test_proto_forbids_it_and_clippy_wants_a_reason_in_all_crates() -> None:
    lints = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["lints"]
    assert lints["clippy"]["undocumented_unsafe_blocks"] == "deny"
    assert lints["rust"]["unsafe_op_in_unsafe_fn"] == "deny"
    manifests = [tomllib.loads(path.read_text()) for path in sorted(CRATES.glob("*/Cargo.toml"))]
    assert [manifest["lints"] for manifest in manifests] == [{"workspace": True}] * 3
    assert "#![forbid(unsafe_code)]" in (CRATES / "ushabti-proto" / "src" / "lib.rs").read_text()
