#!/usr/bin/env python3
"""Makes a copy of the code in which every breakage of tests/sim/mutants.txt can be switched on by TUTTI_MUTANT."""

import pathlib
import shutil
import subprocess
import sys

SWITCH = '''
/// Whether a breakage is tried.
pub fn mutant(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ACTIVE.get_or_init(|| std::env::var("TUTTI_MUTANT").unwrap_or_default()) == name
}
'''


def read(path):
    mutants, lines = [], [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    while lines:
        head, file, old, new = lines[:4]
        lines = lines[4:]
        name, what = head[1:].split("] ", 1)
        assert old.startswith("- ") and new.startswith("+ "), head
        mutants.append((name, what, file, old[2:], new[2:]))
    return mutants


def main():
    copy = pathlib.Path(sys.argv[1])
    copy.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], check=True, capture_output=True).stdout
    texts = {}
    for name in filter(None, tracked.decode().split("\0")):
        path = pathlib.Path(name)
        if path.is_file():
            texts[name] = path.read_bytes()
    mutants = read(pathlib.Path("tests/sim/mutants.txt"))
    for name, _, file, old, new in mutants:
        text = texts[file].decode()
        if text.count(old) != 1:
            sys.exit(f"{name}: '{old}' occurs {text.count(old)} times in {file}")
        texts[file] = text.replace(old, new.replace("MUTANT", f'crate::base::mutant("{name}")')).encode()
    texts["src/base/mod.rs"] += SWITCH.encode()
    for name, text in texts.items():
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # What has not changed keeps its time, so that it is not built again.
        if not path.exists() or path.read_bytes() != text:
            path.write_bytes(text)
            shutil.copymode(name, path)
    (copy / "names").write_text("".join(f"{name}\t{what}\n" for name, what, *_ in mutants))
    print(f"    {len(mutants)} breakages in {copy}")


main()
