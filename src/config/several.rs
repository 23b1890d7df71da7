//! Options of several words or several lines: how each is read, printed and written.

use super::Config;
use super::option::{Several, WRONG_NUMBER, short_memory, utf8};
use super::values::{BufferLimit, BufferLimits, SavePoint};
use crate::base::text::{format_double, parse_f64, parse_i64, parse_memory, parse_u64};

/// `bind ADDRESS...`
pub(super) const BIND: Several = Several {
    form: "ADDRESS...",
    set: |config, words| {
        if words.len() > BIND_MAX {
            return Err("Too many bind addresses specified.".into());
        }
        let given = if is_one_empty(words) { &[] } else { words };
        config.bind = given.iter().map(|word| utf8(word).map(str::to_owned)).collect::<Result<_, _>>()?;
        Ok(())
    },
    texts: |config| vec![config.bind.join(" ")],
    lines: |config| vec![or_empty(config.bind.clone())],
};

/// `save SECONDS CHANGES ...`; `save ""` forgets those before.
pub(super) const SAVE: Several = Several {
    form: "SECONDS CHANGES | \"\"",
    set: |config, words| {
        if is_one_empty(words) {
            config.save.clear();
            return Ok(());
        }
        let number = |word: &Vec<u8>| parse_u64(word).filter(|&n| n <= i64::MAX as u64);
        let mut points = Vec::new();
        for pair in words.chunks(2) {
            let [seconds, changes] = pair else { return Err(BAD_SAVE.into()) };
            let (seconds, changes) = (number(seconds).ok_or(BAD_SAVE)?, number(changes).ok_or(BAD_SAVE)?);
            if seconds == 0 {
                return Err(BAD_SAVE.into());
            }
            points.push(SavePoint { seconds, changes });
        }
        config.save.extend(points);
        Ok(())
    },
    texts: |config| vec![save_lines(config).concat().join(" ")],
    lines: |config| if config.save.is_empty() { vec![vec![String::new()]] } else { save_lines(config) },
};

/// `replicaof HOST PORT`; `replicaof no one` forgets those before.
///
/// Every line adds. Whether only the last one counts (`multi-master no`) is decided when all lines have been read, so
/// that their order does not matter.
pub(super) const REPLICAOF: Several = Several {
    form: "HOST PORT | no one",
    set: |config, words| {
        let [host, port] = words else { return Err(WRONG_NUMBER.into()) };
        let (host, port) = (utf8(host)?, utf8(port)?);
        if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
            config.replicaof.clear();
            return Ok(());
        }
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|&port| port > 0).ok_or("Invalid master port")?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err("Invalid master host".into());
        }
        config.replicaof.push((host.to_owned(), port));
        Ok(())
    },
    texts: |config| {
        let texts: Vec<_> = master_lines(config).into_iter().map(|line| line.join(" ")).collect();
        if texts.is_empty() { vec![String::new()] } else { texts }
    },
    lines: master_lines,
};

/// `rename-command OLD NEW`; an empty new name removes the command.
pub(super) const RENAME_COMMAND: Several = Several {
    form: "COMMAND NEW-NAME",
    set: |config, words| {
        let [old, new] = words else { return Err(WRONG_NUMBER.into()) };
        let (old, new) = (utf8(old)?.to_lowercase(), utf8(new)?.to_owned());
        config.rename_command.retain(|(earlier, _)| *earlier != old);
        config.rename_command.push((old, new));
        Ok(())
    },
    texts: |_| Vec::new(),
    lines: |config| config.rename_command.iter().map(|(old, new)| vec![old.clone(), new.clone()]).collect(),
};

/// `client-output-buffer-limit CLASS HARD SOFT SECONDS ...`
pub(super) const OUTPUT_BUFFER_LIMIT: Several = Several {
    form: "normal|replica|pubsub HARD SOFT SECONDS",
    set: |config, words| {
        let mut limits = config.client_output_buffer_limit;
        for group in words.chunks(4) {
            let [class, hard, soft, seconds] = group else {
                return Err("Wrong number of arguments in buffer limit configuration.".into());
            };
            let class =
                class_mut(&mut limits, class).ok_or("Invalid client class specified in buffer limit configuration.")?;
            *class = buffer_limit(hard, soft, seconds)
                .ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
        }
        config.client_output_buffer_limit = limits;
        Ok(())
    },
    // Redis still prints the class by its old name, and tools look for it.
    texts: |config| {
        let text = |(class, limit): (&str, BufferLimit)| {
            format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        };
        vec![classes(config, "slave").map(text).join(" ")]
    },
    lines: |config| {
        let line = |(class, limit): (&str, BufferLimit)| {
            let (hard, soft) = (short_memory(limit.hard_bytes), short_memory(limit.soft_bytes));
            vec![class.to_owned(), hard, soft, limit.soft_seconds.to_string()]
        };
        classes(config, "replica").map(line).into()
    },
};

/// `latency-tracking-info-percentiles PERCENTILE...`
pub(super) const PERCENTILES: Several = Several {
    form: "PERCENTILE... | \"\"",
    set: |config, words| {
        let given = if is_one_empty(words) { &[] } else { words };
        let mut percentiles = Vec::new();
        for word in given {
            let n = parse_f64(word).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&n) {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into());
            }
            percentiles.push(n);
        }
        config.latency_tracking_info_percentiles = percentiles;
        Ok(())
    },
    texts: |config| vec![percentile_words(config).join(" ")],
    lines: |config| vec![or_empty(percentile_words(config))],
};

// Redis' CONFIG_BINDADDR_MAX.
const BIND_MAX: usize = 16;
const BAD_SAVE: &str = "Invalid save parameters";

fn is_one_empty(words: &[Vec<u8>]) -> bool {
    matches!(words, [word] if word.is_empty())
}

fn or_empty(words: Vec<String>) -> Vec<String> {
    if words.is_empty() { vec![String::new()] } else { words }
}

fn save_lines(config: &Config) -> Vec<Vec<String>> {
    config.save.iter().map(|point| vec![point.seconds.to_string(), point.changes.to_string()]).collect()
}

fn master_lines(config: &Config) -> Vec<Vec<String>> {
    config.replicaof.iter().map(|(host, port)| vec![host.clone(), port.to_string()]).collect()
}

fn percentile_words(config: &Config) -> Vec<String> {
    config.latency_tracking_info_percentiles.iter().map(|&n| format_double(n)).collect()
}

fn class_mut<'a>(limits: &'a mut BufferLimits, class: &[u8]) -> Option<&'a mut BufferLimit> {
    match class.to_ascii_lowercase().as_slice() {
        b"normal" => Some(&mut limits.normal),
        b"replica" | b"slave" => Some(&mut limits.replica),
        b"pubsub" => Some(&mut limits.pubsub),
        _ => None,
    }
}

fn buffer_limit(hard: &[u8], soft: &[u8], seconds: &[u8]) -> Option<BufferLimit> {
    Some(BufferLimit {
        hard_bytes: parse_memory(utf8(hard).ok()?)?,
        soft_bytes: parse_memory(utf8(soft).ok()?)?,
        soft_seconds: parse_i64(seconds)?.try_into().ok()?,
    })
}

fn classes<'a>(config: &Config, replica: &'a str) -> [(&'a str, BufferLimit); 3] {
    let limits = config.client_output_buffer_limit;
    [("normal", limits.normal), (replica, limits.replica), ("pubsub", limits.pubsub)]
}
