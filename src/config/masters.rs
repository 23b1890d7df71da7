//! REPLICAOF: the masters of a running node, in KeyDB's forms.

use super::Config;

/// What REPLICAOF asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Masters {
    /// Follow one more (without `multi-master`: this one instead).
    Add(String, u16),
    /// Follow this one no more.
    Remove(String, u16),
    /// Follow none.
    NoOne,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The configuration with the change.
    Changed(Box<Config>),
    /// It was so already; what the client is told, as a status.
    Already(&'static str),
    /// The refusal, with its code word.
    Refused(&'static str),
}

impl Masters {
    /// Applies the change to a configuration.
    pub fn change(&self, config: &Config) -> Outcome {
        let find = |host: &str, port: u16| {
            let is = |(known, at): &(String, u16)| known.eq_ignore_ascii_case(host) && *at == port;
            config.replicaof.iter().position(is)
        };
        let mut changed = config.clone();
        match self {
            Self::NoOne => changed.replicaof.clear(),
            Self::Remove(host, port) => match find(host, *port) {
                Some(at) => drop(changed.replicaof.remove(at)),
                None => return Outcome::Refused("ERR Master not found"),
            },
            Self::Add(host, port) => {
                if find(host, *port).is_some() {
                    return Outcome::Already("OK Already connected to specified master");
                }
                if !config.multi_master {
                    changed.replicaof.clear();
                }
                changed.replicaof.push((host.clone(), *port));
            }
        }
        Outcome::Changed(Box::new(changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(config: &Config, change: Masters) -> Vec<u16> {
        match change.change(config) {
            Outcome::Changed(config) => config.replicaof.into_iter().map(|(_, port)| port).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn masters_are_added_and_removed_as_in_keydb() {
        let replicaof = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
        let several = Config { multi_master: true, replicaof: replicaof.clone(), ..Config::default() };
        let single = Config { replicaof, ..Config::default() };
        assert_eq!(after(&several, Masters::Add("a".into(), 3)), [1, 2, 3]);
        assert_eq!(after(&single, Masters::Add("a".into(), 3)), [3]);
        assert_eq!(after(&several, Masters::Remove("A".into(), 1)), [2]);
        assert!(after(&several, Masters::NoOne).is_empty());
        let already = Outcome::Already("OK Already connected to specified master");
        assert_eq!(Masters::Add("B".into(), 2).change(&several), already);
        assert_eq!(Masters::Remove("b".into(), 3).change(&several), Outcome::Refused("ERR Master not found"));
    }
}
