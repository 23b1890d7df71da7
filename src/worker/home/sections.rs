//! Which sections INFO is asked for.

/// The sections, in the order INFO prints them, and whether a bare INFO does.
const ALL: &[(&str, bool)] = &[
    ("server", true),
    ("clients", true),
    ("memory", true),
    ("persistence", true),
    ("stats", true),
    ("replication", true),
    ("cpu", true),
    ("modules", true),
    ("commandstats", false),
    ("errorstats", true),
    ("cluster", true),
    ("keyspace", true),
    ("keydb", true),
    ("tutti", true),
];

/// A choice of sections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sections(Vec<&'static str>);

impl Sections {
    /// What the arguments of INFO ask for; unknown names ask for nothing.
    pub fn parse<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut wanted = Vec::new();
        let mut is_bare = true;
        for name in names {
            is_bare = false;
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            match name.as_str() {
                "all" | "everything" => wanted.extend(ALL.iter().map(|(section, _)| *section)),
                "default" => wanted.extend(defaults()),
                name => wanted.extend(ALL.iter().map(|(section, _)| *section).filter(|section| *section == name)),
            }
        }
        if is_bare {
            wanted.extend(defaults());
        }
        Self(wanted)
    }

    /// The sections asked for, each once, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|(section, _)| *section).filter(|section| self.0.contains(section))
    }
}

fn defaults() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter(|(_, is_default)| *is_default).map(|(section, _)| *section)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<&'static str> {
        Sections::parse(names.iter().map(|name| name.as_bytes())).iter().collect()
    }

    #[test]
    fn sections_come_in_one_order_and_once() {
        assert_eq!(of(&["Keyspace", "SERVER", "server", "nonsense"]), ["server", "keyspace"]);
        assert_eq!(of(&["default"]), of(&[]));
        assert!(!of(&[]).contains(&"commandstats"));
        assert_eq!(of(&["default", "commandstats"]), of(&["everything"]));
        assert!(of(&["nonsense"]).is_empty());
    }
}
