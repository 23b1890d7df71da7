//! Files of one core, read and written by glommio in a task queue of low shares.
//!
//! A file is a task that takes steps from its own queue, in order, and leaves an event for each. The pump looks for
//! events every round and visits glommio's reactor while [`Disk::is_busy`]. A crash at any point leaves either the
//! old content under a path or the whole new one: temporary file, append, fdatasync, rename, fsync of the folder.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::io::{BufferedFile, Directory, OpenOptions};
use glommio::{GlommioError, Latency, Shares, TaskQueueHandle};

use super::bell::Bell;
use crate::base::time::Now;
use crate::worker::port::{Core, FileEvent, FileId, FileStep};

/// Against the pump's 1000: with both at work the disk gets a twentieth of the core.
const DISK_SHARES: usize = 50;

/// All files of one core.
pub(crate) struct Disk {
    /// Made with the first file.
    queue: Option<TaskQueueHandle>,
    files: Vec<(FileId, LocalSender<FileStep>)>,
    shared: Rc<Shared>,
}

struct Shared {
    events: RefCell<VecDeque<(FileId, FileEvent)>>,
    /// Steps that have not left their event yet.
    outstanding: Cell<usize>,
    /// Files whose task has not ended.
    alive: Cell<usize>,
    bell: Rc<Bell>,
}

impl Disk {
    pub(crate) fn new(bell: Rc<Bell>) -> Self {
        let shared = Shared { events: RefCell::default(), outstanding: Cell::new(0), alive: Cell::new(0), bell };
        Self { queue: None, files: Vec::new(), shared: Rc::new(shared) }
    }

    /// glommio has work of ours: its reactor wants visits.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.outstanding.get() > 0
    }

    /// Events wait for [`Disk::collect`].
    pub(crate) fn has_events(&self) -> bool {
        !self.shared.events.borrow().is_empty()
    }

    /// Queues a step.
    pub(crate) fn begin(&mut self, file: FileId, step: FileStep) {
        let known = self.files.iter().position(|(known, _)| *known == file);
        self.shared.outstanding.set(self.shared.outstanding.get() + 1);
        let is_opening = matches!(step, FileStep::Create(_) | FileStep::Open(_) | FileStep::OpenToAppend(_));
        let steps = match known {
            Some(at) => &self.files[at].1,
            None if is_opening => self.start(file),
            None => {
                let reason = "the file is not open".into();
                return self.shared.leave(file, FileEvent::Failed(reason));
            }
        };
        if steps.try_send(step).is_err() {
            self.shared.leave(file, FileEvent::Failed("the file has ended".into()));
        }
    }

    /// Tells the core what ended.
    pub(crate) fn collect<C: Core>(&mut self, core: &mut C, now: Now) {
        loop {
            // Not in the loop's head: the borrow would last through the call.
            let Some((file, event)) = self.shared.events.borrow_mut().pop_front() else { return };
            if matches!(event, FileEvent::Committed | FileEvent::Abandoned | FileEvent::Failed(_)) {
                self.files.retain(|(known, _)| *known != file);
            }
            core.file_event(file, event, now);
        }
    }

    /// Ends every file; those being created are removed. Over when [`Disk::is_empty`].
    pub(crate) fn abandon_all(&mut self) {
        self.files.clear();
    }

    /// No file's task is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.alive.get() == 0
    }

    fn start(&mut self, file: FileId) -> &LocalSender<FileStep> {
        let queue = *self.queue.get_or_insert_with(|| {
            glommio::executor().create_task_queue(Shares::Static(DISK_SHARES), Latency::NotImportant, "disk")
        });
        let (steps, queued) = local_channel::new_unbounded();
        let shared = Rc::clone(&self.shared);
        shared.alive.set(shared.alive.get() + 1);
        let task = async move {
            work(file, queued, &shared).await;
            shared.alive.set(shared.alive.get() - 1);
        };
        glommio::spawn_local_into(task, queue).expect("the queue is never removed").detach();
        self.files.push((file, steps));
        &self.files.last().expect("just pushed").1
    }
}

impl Shared {
    fn leave(&self, file: FileId, event: FileEvent) {
        self.events.borrow_mut().push_back((file, event));
        self.outstanding.set(self.outstanding.get() - 1);
        self.bell.ring();
    }
}

/// A file's task: steps in, events out, until it ends.
async fn work(id: FileId, steps: LocalReceiver<FileStep>, shared: &Shared) {
    let mut open: Option<OpenFile> = None;
    while let Some(step) = steps.recv().await {
        let ends = matches!(step, FileStep::Commit | FileStep::Abandon);
        let event = match take(&mut open, step).await {
            Ok(event) => event,
            Err(reason) => {
                if let Some(file) = open.take() {
                    file.abandon().await;
                }
                FileEvent::Failed(reason)
            }
        };
        let ends = ends || matches!(event, FileEvent::Failed(_));
        shared.leave(id, event);
        if ends {
            // Steps queued behind the end get an answer too; the sender goes when the core hears of the end.
            while steps.recv().await.is_some() {
                shared.leave(id, FileEvent::Failed("the file has ended".into()));
            }
            return;
        }
    }
    if let Some(file) = open {
        file.abandon().await;
    }
}

/// Takes one step. On failure the caller closes what is still open.
async fn take(open: &mut Option<OpenFile>, step: FileStep) -> Result<FileEvent, String> {
    match step {
        FileStep::Create(path) => *open = Some(OpenFile::create(path).await?),
        FileStep::Open(path) => *open = Some(OpenFile::open(path).await?),
        FileStep::OpenToAppend(path) => *open = Some(OpenFile::open_to_append(path).await?),
        FileStep::Commit => {
            open.as_mut().ok_or("the file is not open")?.make_durable().await?;
            open.take().expect("just used").close().await?;
            return Ok(FileEvent::Committed);
        }
        FileStep::Abandon => {
            if let Some(file) = open.take() {
                file.abandon().await;
            }
            return Ok(FileEvent::Abandoned);
        }
        FileStep::Append(bytes) => return open.as_mut().ok_or("the file is not open")?.append(bytes).await,
        FileStep::Read(bytes) => return open.as_mut().ok_or("the file is not open")?.read(bytes).await,
        FileStep::Sync => return open.as_mut().ok_or("the file is not open")?.sync().await,
    }
    Ok(FileEvent::Opened(open.as_ref().map_or(0, |file| file.bytes)))
}

struct OpenFile {
    file: BufferedFile,
    /// Where its content is to be found after a commit.
    path: PathBuf,
    /// It lies under a temporary name.
    is_temporary: bool,
    /// Where the next read or write goes.
    position: u64,
    bytes: u64,
}

impl OpenFile {
    async fn create(path: PathBuf) -> Result<Self, String> {
        let temporary = temporary_name(&path);
        let file = BufferedFile::create(&temporary).await.map_err(|error| say("create", &temporary, &error))?;
        Ok(Self { file, path, is_temporary: true, position: 0, bytes: 0 })
    }

    async fn open(path: PathBuf) -> Result<Self, String> {
        let file = BufferedFile::open(&path).await.map_err(|error| say("open", &path, &error))?;
        let bytes = file.file_size().await.map_err(|error| say("measure", &path, &error))?;
        Ok(Self { file, path, is_temporary: false, position: 0, bytes })
    }

    async fn open_to_append(path: PathBuf) -> Result<Self, String> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o644);
        let file = options.buffered_open(&path).await.map_err(|error| say("open", &path, &error))?;
        let bytes = file.file_size().await.map_err(|error| say("measure", &path, &error))?;
        Ok(Self { file, path, is_temporary: false, position: bytes, bytes })
    }

    async fn append(&mut self, bytes: Vec<u8>) -> Result<FileEvent, String> {
        let len = bytes.len();
        let written =
            self.file.write_at(bytes, self.position).await.map_err(|error| say("write", &self.path, &error))?;
        if written != len {
            return Err(format!("write {}: only {written} of {len} bytes fit", self.path.display()));
        }
        self.position += len as u64;
        Ok(FileEvent::Appended)
    }

    async fn read(&mut self, bytes: usize) -> Result<FileEvent, String> {
        let read = self.file.read_at(self.position, bytes).await.map_err(|error| say("read", &self.path, &error))?;
        self.position += read.len() as u64;
        Ok(FileEvent::Read(read.to_vec()))
    }

    async fn sync(&mut self) -> Result<FileEvent, String> {
        self.file.fdatasync().await.map_err(|error| say("synchronise", &self.path, &error))?;
        Ok(FileEvent::Synced)
    }

    async fn make_durable(&mut self) -> Result<(), String> {
        self.sync().await?;
        if self.is_temporary {
            self.file.rename(&self.path).await.map_err(|error| say("rename to", &self.path, &error))?;
            self.is_temporary = false;
            sync_folder(&self.path).await?;
        }
        Ok(())
    }

    async fn close(self) -> Result<(), String> {
        let path = self.path;
        self.file.close().await.map_err(|error| say("close", &path, &error))
    }

    /// Closes; nobody is left to tell about errors.
    async fn abandon(self) {
        if self.is_temporary
            && let Err(error) = self.file.remove().await
        {
            tracing::warn!("{}", say("remove", &temporary_name(&self.path), &error));
        }
        let _ = self.file.close().await;
    }
}

/// Makes a rename inside the folder of `path` survive a power cut.
async fn sync_folder(path: &Path) -> Result<(), String> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = Directory::open(folder).await.map_err(|error| say("open", folder, &error))?;
    directory.sync().await.map_err(|error| say("synchronise", folder, &error))?;
    directory.close().await.map_err(|error| say("close", folder, &error))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// One line; glommio's own text repeats path and descriptor.
fn say(doing: &str, path: &Path, error: &GlommioError<()>) -> String {
    let cause = match error {
        GlommioError::IoError(source) => source.to_string(),
        GlommioError::EnhancedIoError { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    format!("{doing} {}: {cause}", path.display())
}
