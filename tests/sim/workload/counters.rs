//! Counters, keys and fields of hashes: increments no reset had seen are all there, those that some reset had seen
//! never return.

use tutti::base::text::parse_i64;
use tutti::merge::op::{Observations, Op};
use tutti::merge::total::Total;

use super::{Command, Draw, Seen, Workload, command};
use crate::ledger::{Event, Ledger};

pub struct Counters;

impl Workload for Counters {
    fn letter(&self) -> char {
        'c'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let (key, by) = (draw.key('c'), draw.number());
        let base = (by * 1000).to_string().into_bytes();
        let by = by.to_string().into_bytes();
        match draw.rng.below(12) {
            0 if draw.resets => command(&[b"SET", &key, &base]),
            1 if draw.resets => command(&[b"DEL", &key]),
            2 if draw.resets => command(&[b"GETSET", &key, &base]),
            3 if draw.resets => command(&[b"GETDEL", &key]),
            0..7 => command(&[b"INCRBY", &key, &by]),
            7 => command(&[b"DECRBY", &key, &by]),
            _ => command(&[b"INCR", &key]),
        }
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        let got = match seen {
            Seen::Absent => None,
            Seen::Text(text) => Some(parse_i64(text).ok_or("no number")?),
            Seen::Hash(_) => return Err("a hash".into()),
        };
        judge_cell(events, &of_key, got)
    }
}

pub struct Fields;

impl Workload for Fields {
    fn letter(&self) -> char {
        'f'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let (key, field, by) = (draw.key('f'), draw.field(), draw.number());
        let base = (by * 1000).to_string().into_bytes();
        let by = by.to_string().into_bytes();
        match draw.rng.below(12) {
            0 if draw.resets => command(&[b"HSET", &key, &field, &base]),
            1 if draw.resets => command(&[b"HDEL", &key, &field]),
            2 if draw.resets => command(&[b"DEL", &key]),
            3 => command(&[b"HGETALL", &key]),
            _ => command(&[b"HINCRBY", &key, &field, &by]),
        }
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        for name in ["f0", "f1", "f2", "f3"] {
            let got = match seen {
                Seen::Absent => None,
                Seen::Text(_) => return Err("a string".into()),
                Seen::Hash(fields) => match fields.get(name.as_bytes()) {
                    None => None,
                    Some(text) => Some(parse_i64(text).ok_or("no number")?),
                },
            };
            judge_cell(events, &|event| of_field(event, name.as_bytes()), got)
                .map_err(|what| format!("{name}: {what}"))?;
        }
        Ok(())
    }
}

/// What one event means to one counter.
enum Part {
    Nothing,
    /// The slot's epoch and total afterwards.
    Add(u64, i64),
    /// The new base, and up to where it had seen whose increments.
    Reset(Option<i64>, Vec<(u16, u64)>),
    Flush,
}

fn seen_of(observed: &Observations) -> Vec<(u16, u64)> {
    observed.iter().map(|slot| (slot.origin.0, slot.last.0)).collect()
}

fn add(epoch: u64, total: Total) -> Part {
    Part::Add(epoch, Total::integer(total.fixed()).expect("whole increments only"))
}

fn of_key(event: &Event) -> Part {
    match event.op() {
        Op::Add { epoch, total } => add(epoch.0, total),
        Op::Set { value, observed, .. } => Part::Reset(parse_i64(value), seen_of(&observed)),
        Op::Clear { observed, .. } => Part::Reset(None, seen_of(&observed)),
        Op::Flush => Part::Flush,
        _ => Part::Nothing,
    }
}

fn of_field(event: &Event, name: &[u8]) -> Part {
    match event.op() {
        Op::FieldAdd { name: of, epoch, total } if of == name => add(epoch.0, total),
        Op::Fields { fields } => match fields.iter().find(|field| field.name == name) {
            Some(field) => Part::Reset(field.value.and_then(parse_i64), seen_of(&field.observed)),
            None => Part::Nothing,
        },
        Op::Clear { fields, .. } => {
            let observed = fields.iter().find(|(of, _)| of == name);
            Part::Reset(None, observed.map_or(Vec::new(), |(_, observed)| seen_of(observed)))
        }
        Op::Flush => Part::Flush,
        _ => Part::Nothing,
    }
}

fn judge_cell(events: &[&Event], part: &dyn Fn(&Event) -> Part, got: Option<i64>) -> Result<(), String> {
    let parts: Vec<(&Event, Part)> =
        events.iter().map(|event| (*event, part(event))).filter(|(_, part)| !matches!(part, Part::Nothing)).collect();
    let mut base = None;
    for (_, part) in &parts {
        match part {
            Part::Reset(value, _) => base = *value,
            Part::Flush => base = None,
            _ => {}
        }
    }
    let (mut least, mut most, mut is_sure, mut is_possible) = (0, 0, base.is_some(), base.is_some());
    for (at, (event, part)) in parts.iter().enumerate() {
        let Part::Add(epoch, total) = part else { continue };
        let before = parts[..at].iter().rev().find_map(|(earlier, part)| match part {
            Part::Add(of, total) if earlier.origin == event.origin => Some((*of, *total)),
            _ => None,
        });
        let by = total - before.filter(|(of, _)| of == epoch).map_or(0, |(_, total)| total);
        // One that a flush had not heard of but is older than goes where it arrives after the flush, so later resets
        // there do not see it; it comes back if its owner, unaware, goes on counting. Either way.
        let is_overtaken =
            parts[at..].iter().any(|(other, part)| matches!(part, Part::Flush) && !other.has_seen(event));
        let is_wiped =
            parts.iter().any(|(other, part)| matches!(part, Part::Reset(..) | Part::Flush) && other.has_seen(event));
        // What a merge of the whole partition has brought is seen before the version vector says so.
        let may_be_wiped = parts.iter().any(|(_, part)| match part {
            Part::Reset(_, seen) => seen.iter().any(|&(origin, hlc)| origin == event.origin && event.hlc <= hlc),
            _ => false,
        });
        if is_overtaken || !is_wiped && may_be_wiped {
            (least, most) = (least + by.min(0), most + by.max(0));
            is_possible = true;
        } else if !is_wiped {
            (least, most) = (least + by, most + by);
            (is_sure, is_possible) = (true, true);
        }
    }
    let range = base.unwrap_or(0) + least..=base.unwrap_or(0) + most;
    let fits = match got {
        Some(number) => is_possible && range.contains(&number),
        None => !is_sure,
    };
    if fits { Ok(()) } else { Err(format!("{got:?} should be in {range:?} (sure {is_sure}, possible {is_possible})")) }
}
