//! The data folder at the start: who we are, and the snapshot we begin with. Blocking: nobody is served yet.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::ids::Uuid;
use crate::base::time::Now;
use crate::config::Config;
use crate::merge::origins::OriginId;
use crate::shard::Shard;
use crate::snapshot::identity;
use crate::snapshot::load::{self, Facts, Loading};

/// What was found.
pub(crate) struct Data {
    /// This start.
    pub(crate) own: OriginId,
    /// The snapshot, looked at whole.
    pub(crate) snapshot: Option<Snapshot>,
    /// Of the identity's file: another server that starts here is another node.
    pub(crate) lock: Option<File>,
}

/// A snapshot that has been found sound.
pub(crate) struct Snapshot {
    file: Arc<File>,
    len: u64,
    pub(crate) facts: Facts,
}

/// Looks at the data folder. `fresh`: the UUID of a node that has none yet. The error is one line for the operator.
pub(crate) fn open(config: &Config, fresh: Uuid, now: Now) -> Result<Data, String> {
    let path = Path::new(&config.dir).join(&config.dbfilename);
    let snapshot = open_snapshot(&path, config, now)?;
    let written_by = snapshot.as_ref().and_then(|snapshot| snapshot.facts.node);
    let mut name = path.into_os_string();
    name.push(identity::SUFFIX);
    let (own, lock) = take_identity(Path::new(&name), written_by, fresh, now)?;
    if let Some(writer) = written_by.filter(|writer| writer.node != own.node) {
        tracing::warn!(
            "The snapshot was written by another node, {}; we are {} and take its data",
            writer.node,
            own.node
        );
    }
    Ok(Data { own, snapshot, lock })
}

impl Snapshot {
    /// Begins to take into a shard what belongs to it. The last to be done closes the file: an open one keeps its room
    /// on the disk when the next snapshot takes its name.
    pub(crate) fn begin(&self, shard: &mut Shard) -> Result<Loading<Box<dyn io::Read>>, String> {
        let read: Box<dyn io::Read> = Box::new(Positioned { file: Arc::clone(&self.file), at: 0 });
        Loading::begin(read, self.len, &self.facts, shard)
    }
}

fn open_snapshot(path: &Path, config: &Config, now: Now) -> Result<Option<Snapshot>, String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(error)),
    };
    let len = file.metadata().map_err(named)?.len();
    let file = Arc::new(file);
    let read = Positioned { file: Arc::clone(&file), at: 0 };
    let facts = load::check(read, len, config.rdbchecksum, usize::from(config.databases), now).map_err(|damage| {
        format!(
            "{}: {damage}; the file was left as it is: restore a copy, or move it away to start empty",
            path.display()
        )
    })?;
    for what in &facts.skipped {
        tracing::warn!("{} holds {what}, which have no meaning here and will not be saved again", path.display());
    }
    Ok(Some(Snapshot { file, len, facts }))
}

fn take_identity(
    path: &Path,
    snapshot: Option<OriginId>,
    fresh: Uuid,
    now: Now,
) -> Result<(OriginId, Option<File>), String> {
    let kept = match File::open(path) {
        Ok(file) if !lock(&file) => return Ok((another_runs(path, fresh, now), None)),
        Ok(file) => Some((read_identity(path)?, file)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let own = identity::decide(kept.as_ref().map(|(id, _)| *id), snapshot, fresh, now.wall_ms);
    match write_identity(path, own) {
        Ok(Some(lock)) => Ok((own, Some(lock))),
        Ok(None) => Ok((another_runs(path, fresh, now), None)),
        Err(error) => {
            // Without a place to remember it, this start must not be taken for an earlier one.
            let own = OriginId { node: fresh, incarnation: now.wall_ms };
            let path = path.display();
            tracing::warn!(
                "{path}: {error}; this node is {} for this run only and cannot save snapshots there",
                own.node
            );
            Ok((own, None))
        }
    }
}

fn another_runs(path: &Path, fresh: Uuid, now: Now) -> OriginId {
    tracing::warn!(
        "{} belongs to a node that runs: this one is {fresh} for this run only; give every node a dir or dbfilename of its own",
        path.display()
    );
    OriginId { node: fresh, incarnation: now.wall_ms }
}

fn read_identity(path: &Path) -> Result<OriginId, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    identity::parse(&text).ok_or_else(|| {
        let path = path.display();
        format!("{path}: not a node's identity; restore a copy, or remove it to become a new node")
    })
}

// The new file is locked before it has its name, so that no other start sees it unlocked. `None`: another has it.
fn write_identity(path: &Path, id: OriginId) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let mut file = File::options().create(true).truncate(false).write(true).open(&temporary)?;
    if !lock(&file) {
        return Ok(None);
    }
    file.set_len(0)?;
    file.write_all(identity::print(id).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(Some(file))
}

// Held until the process ends, however it ends.
fn lock(file: &File) -> bool {
    // SAFETY: a plain system call on a descriptor that is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Reads of one file by several cores, each from its own place.
struct Positioned {
    file: Arc<File>,
    at: u64,
}

impl io::Read for Positioned {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
