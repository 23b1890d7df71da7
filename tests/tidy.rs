//! What the tree promises and a text search can check: layers, forbidden names, file heads, lists, documents.
//!
//! Every message says what to do instead. An exception is a line here with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each folder of `src` and the folders it may name. What is not listed here cannot be imported.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("mem", &["base"]),
    ("config", &["base"]),
    ("merge", &["base", "mem"]),
    ("store", &["base", "mem", "merge"]),
    ("resp", &["base"]),
    ("shard", &["base", "mem", "merge", "store"]),
    ("peer", &["base", "merge", "resp", "shard"]),
    ("command", &["base", "mem", "merge", "store", "shard", "resp", "config"]),
    ("snapshot", &["base", "mem", "merge", "store", "shard"]),
    ("worker", &["base", "mem", "config", "merge", "store", "shard", "resp", "command", "snapshot", "peer"]),
    ("runtime", &["base", "mem", "config", "merge", "store", "shard", "resp", "command", "snapshot", "peer", "worker"]),
];

/// The world. Only `runtime` and `main.rs` may name it, so that everything else can be driven by a test.
const WORLD: &[(&str, &str)] = &[
    ("glommio", "return an Action from the worker and let runtime do it"),
    ("io_uring::", "return an Action from the worker and let runtime do it"),
    ("std::net", "runtime owns the sockets; a worker sees bytes and connection ids"),
    ("std::fs", "runtime owns the files; encode to bytes here and let runtime write them"),
    ("std::thread", "runtime owns the threads; split the work into slices"),
    ("Instant::now", "take `now: Now` as an argument"),
    ("SystemTime::now", "take `now: Now` as an argument"),
    ("libc::", "system calls belong to runtime"),
];

/// Files outside `runtime` that may name a part of the world, and why.
const WORLD_EXCEPTIONS: &[(&str, &str, &str)] =
    &[("src/base/text_tests.rs", "libc::", "numbers are compared with what the C library prints")];

/// Left in by mistake, wherever it is.
const BANNED: &[(&str, &str)] = &[
    ("#[ignore", "delete the test or make it pass"),
    ("todo!(", "write it, or answer with an error"),
    ("unimplemented!(", "write it, or answer with an error"),
    ("dbg!(", "delete it, or use tracing"),
    ("static mut ", "no two threads share data; use a value the worker owns"),
];

const LINES_MAX: usize = 700;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] =
    &[("src/mem/entry.rs", "one packed layout: every accessor reads the same few header bits")];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["src/mem/", "src/runtime/", "src/main.rs", "src/base/text_tests.rs"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files under a folder, as paths from the root with their text, in the order of their names.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, ending: &str, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, ending, into);
                }
            } else if path.to_string_lossy().ends_with(ending) {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(folder), ending, &mut paths);
    paths.sort();
    let named = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.strip_prefix(root()).expect("walked from the root").to_string_lossy().into_owned();
        (name, text)
    };
    paths.into_iter().map(named).collect()
}

/// The lines of code with their numbers; whole-line comments are left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The names that follow `crate::` in a line, also inside `crate::{a, b::c}`.
fn imported(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let rest = &line[at + found.len()..];
        let list = rest.strip_prefix('{').map(|inner| inner.split('}').next().unwrap_or(inner));
        let parts: Vec<&str> = list.map_or_else(|| vec![rest], |list| list.split(',').collect());
        names.extend(parts.iter().map(|part| {
            let part = part.trim();
            &part[..part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len())]
        }));
    }
    names
}

#[test]
fn imports_follow_the_layers() {
    let mut problems = Vec::new();
    for (path, text) in files("src", ".rs") {
        let Some((folder, _)) = path["src/".len()..].split_once('/') else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == folder) else {
            problems
                .push(format!("{path}: folder '{folder}' has no place among the LAYERS of tests/tidy.rs: give it one"));
            continue;
        };
        for (at, line) in code(&text) {
            for name in imported(line) {
                let is_folder = LAYERS.iter().any(|(folder, _)| *folder == name);
                if is_folder && name != folder && !allowed.contains(&name) {
                    problems.push(format!(
                        "{path}:{at}: {folder} must not know {name}: move what is shared towards base, or pass it in"
                    ));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn only_runtime_touches_the_world() {
    let mut problems = Vec::new();
    for (path, text) in files("src", ".rs") {
        if path.starts_with("src/runtime/") || path == "src/main.rs" {
            continue;
        }
        for (at, line) in code(&text) {
            for (name, instead) in WORLD.iter().filter(|(name, _)| line.contains(name)) {
                let is_known = WORLD_EXCEPTIONS.iter().any(|(file, word, _)| *file == path && word == name);
                if !is_known {
                    problems.push(format!("{path}:{at}: {name} is for src/runtime only: {instead}"));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn nothing_unfinished_is_left_in() {
    let mut problems = Vec::new();
    let this = |path: &str| path == "tests/tidy.rs";
    for (path, text) in ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, ".rs")) {
        for (at, line) in code(&text).filter(|_| !this(&path)) {
            for (name, instead) in BANNED.iter().filter(|(name, _)| line.contains(name)) {
                problems.push(format!("{path}:{at}: {name}: {instead}"));
            }
            if line.contains("unsafe")
                && path.starts_with("src/")
                && !UNSAFE.iter().any(|place| path.starts_with(place))
            {
                problems.push(format!("{path}:{at}: unsafe: only {} may use it", UNSAFE.join(", ")));
            }
        }
    }
    report(&problems);
}

#[test]
fn every_file_says_what_it_owns() {
    // A `*_tests.rs` beside its file is explained by that file's head.
    let has_head = |path: &str, text: &str| text.starts_with("//!") || path.ends_with("_tests.rs");
    let missing = files("src", ".rs").into_iter().filter(|(path, text)| !has_head(path, text));
    report(
        &missing
            .map(|(path, _)| format!("{path}: open it with `//!`: what it owns, what it must not know"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_is_a_scroll() {
    let mut problems = Vec::new();
    let all: Vec<_> = ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, ".rs")).collect();
    for (path, text) in &all {
        let lines = text.lines().count();
        if lines > LINES_MAX && !LONG.iter().any(|(long, _)| long == path) {
            problems.push(format!("{path}: {lines} lines: split it at its second idea (at most {LINES_MAX})"));
        }
    }
    report(&problems);
}

#[test]
fn every_test_and_bench_is_listed() {
    // Cargo does not look for them itself (`autotests = false`): what is not listed is not run.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let listed = |kind: &str| -> BTreeSet<String> {
        let header = format!("[[{kind}]]");
        let sections = manifest.split(&header).skip(1);
        let name = |section: &str| section.lines().find_map(|line| line.strip_prefix("name = ").map(unquoted));
        sections.filter_map(name).collect()
    };
    fn unquoted(word: &str) -> String {
        word.trim_matches('"').to_owned()
    }
    let programs = |folder: &str| -> BTreeSet<String> {
        let top = fs::read_dir(root().join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_program =
            |path: &PathBuf| path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists();
        top.filter(is_program).map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };
    assert_eq!(
        programs("benches"),
        listed("bench"),
        "list every benches/*.rs as [[bench]] in Cargo.toml, and no other"
    );
    assert_eq!(programs("tests"), listed("test"), "list every test program as [[test]] in Cargo.toml, and no other");
}

#[test]
fn scripts_can_be_run_from_anywhere_and_stop_at_errors() {
    let mut problems = Vec::new();
    for (path, text) in files("scripts", ".sh") {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(root().join(&path)).expect("a script").permissions().mode();
        let is_library = path.ends_with("/lib.sh");
        if !is_library && mode & 0o111 == 0 {
            problems.push(format!("{path}: chmod +x"));
        }
        if !is_library && !text.contains("set -euo pipefail") {
            problems.push(format!("{path}: begin with set -euo pipefail"));
        }
        if !is_library && !text.contains("BASH_SOURCE") {
            problems.push(format!("{path}: find the repository from BASH_SOURCE, not from the working directory"));
        }
    }
    report(&problems);
}

#[test]
fn every_breakage_for_the_simulator_still_has_its_place() {
    let list = fs::read_to_string(root().join("tests/sim/mutants.txt")).expect("tests/sim/mutants.txt");
    let lines: Vec<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut problems = Vec::new();
    for entry in lines.chunks(4) {
        let [name, file, old, _] = entry else { panic!("tests/sim/mutants.txt: {entry:?} is no entry") };
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let count = text.matches(&old[2..]).count();
        if count != 1 {
            problems.push(format!(
                "tests/sim/mutants.txt: {name}: its text occurs {count} times in {file}: follow the code"
            ));
        }
    }
    report(&problems);
}

#[test]
fn the_readme_names_only_commands_there_are() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let list =
        readme.split("<!-- commands -->").nth(1).expect("README.md has a list between two <!-- commands --> marks");
    let named: BTreeSet<String> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|words| words.split_whitespace().map(str::to_ascii_lowercase).collect::<Vec<_>>())
        .collect();
    let known: BTreeSet<String> =
        tutti::command::table::all().map(|spec| spec.name.split('|').next().unwrap_or(spec.name).to_owned()).collect();
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "README.md promises commands the table lacks: {unknown:?}");
}

/// The file and the function that a name like `cores::conflicts::of_two_sets_the_later_one_wins` stands for.
fn place_of_test(name: &str) -> Option<(String, &str)> {
    let (path, function) = name.rsplit_once("::")?;
    let (program, modules) = path.split_once("::").unwrap_or((path, ""));
    let file = match (program, modules) {
        ("lib", modules) => {
            let file = format!("src/{}.rs", modules.replace("::", "/"));
            // `mod tests` at the end of its file.
            let is_inside = !root().join(&file).exists();
            file.strip_suffix("/tests.rs").filter(|_| is_inside).map_or(file.clone(), |outer| format!("{outer}.rs"))
        }
        (program, "") => format!("tests/{program}.rs"),
        (program, modules) => format!("tests/{program}/{}.rs", modules.replace("::", "/")),
    };
    Some((file, function))
}

fn is_test(text: &str, function: &str) -> bool {
    let is_head = |line: &&str| line.trim_start().strip_prefix("fn ").is_some_and(|rest| rest.starts_with(function));
    let lines: Vec<&str> = text.lines().collect();
    let heads = lines.iter().enumerate().filter(|(_, line)| is_head(line));
    heads.into_iter().any(|(at, line)| {
        let end = line.trim_start()["fn ".len() + function.len()..].starts_with('(');
        end && lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with(['#', '/']))
            .any(|line| line.trim() == "#[test]")
    })
}

#[test]
fn every_guarantee_names_tests_there_are() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let section = readme
        .split("<!-- guarantees -->")
        .nth(1)
        .expect("README.md has its guarantees between two <!-- guarantees --> marks");
    let mut problems = Vec::new();
    let mut named = 0;
    let mut sentences: Vec<String> = Vec::new();
    for line in section.lines() {
        match line.strip_prefix("- ") {
            Some(begin) => sentences.push(begin.to_owned()),
            None if line.starts_with("  ") => sentences.last_mut().expect("a list").push_str(line),
            None => {}
        }
    }
    for sentence in &sentences {
        let begin: String = sentence.chars().take(60).collect();
        let spans = sentence.split('`').skip(1).step_by(2);
        let tests: Vec<&str> = spans.filter(|span| span.contains("::")).collect();
        if tests.is_empty() {
            problems.push(format!("README.md: name the test that holds \"{begin}...\", as `program::module::test`"));
        }
        named += tests.len();
        for test in tests {
            let (file, function) = place_of_test(test).expect("it has a ::");
            let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
            if !is_test(&text, function) {
                problems.push(format!("README.md: there is no test {function} in {file}, which holds \"{begin}...\""));
            }
        }
    }
    report(&problems);
    assert!(sentences.len() > 30 && named > 30, "the section is read: {} sentences, {named} tests", sentences.len());
}

#[test]
fn documents_name_only_files_there_are() {
    let mut problems = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(document)).expect(document);
        // Examples in fences are not ours.
        let prose: String = text.split("```").step_by(2).collect();
        for span in prose.split('`').skip(1).step_by(2) {
            let path = span.split_whitespace().next().unwrap_or_default();
            let is_ours = ["src/", "tests/", "scripts/", "config/", "benches/"].iter().any(|top| path.starts_with(top));
            if is_ours && !root().join(path).exists() {
                problems.push(format!("{document}: there is no {path}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn the_architecture_describes_every_folder() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let is_described = |folder: &str| text.lines().any(|line| line.starts_with(&format!("| `{folder}` |")));
    let missing = LAYERS.iter().map(|(folder, _)| *folder).filter(|folder| !is_described(folder));
    report(&missing.map(|folder| format!("ARCHITECTURE.md: give src/{folder} a row under Layers")).collect::<Vec<_>>());
}
