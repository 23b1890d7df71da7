//! How a pump that sleeps inside glommio is woken: by its socket ring through an eventfd, by a task, or by time.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;

use super::mailbox::{new_eventfd, signal};

/// One pump's bell, rung and heard on its own thread.
#[derive(Default)]
pub(crate) struct Bell {
    is_rung: Cell<bool>,
    sleeper: RefCell<Option<Waker>>,
}

impl Bell {
    /// Ends the sleep, or the next one before it begins.
    pub(crate) fn ring(&self) {
        self.is_rung.set(true);
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }

    /// Sleeps in glommio until rung, at most `timeout_us`.
    pub(crate) async fn sleep(&self, timeout_us: u64) {
        let mut timer = pin!(Timer::new(Duration::from_micros(timeout_us)));
        poll_fn(|context| {
            if self.is_rung.take() || timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.sleeper.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        self.sleeper.take();
    }
}

/// An eventfd that rings a bell. glommio reads it, so it works only while the reactor is visited.
pub(crate) struct Wire {
    eventfd: OwnedFd,
    is_cut: Rc<Cell<bool>>,
    task: glommio::Task<()>,
}

impl Wire {
    /// Begins listening, inside a glommio executor.
    pub(crate) fn connect(bell: Rc<Bell>) -> io::Result<Self> {
        let eventfd = new_eventfd()?;
        let readers = eventfd.try_clone()?.into_raw_fd();
        // SAFETY: the clone is ours alone, and the file takes it over. Reads of an eventfd need no position.
        let file = unsafe { BufferedFile::from_raw_fd(readers) };
        let is_cut = Rc::new(Cell::new(false));
        let cut = Rc::clone(&is_cut);
        let task = glommio::spawn_local(async move {
            while !cut.get() {
                if let Err(error) = file.read_at(0, size_of::<u64>()).await {
                    // The pump then wakes by time only: slow, but right.
                    tracing::error!("reading the eventfd of the socket ring: {error}");
                    break;
                }
                bell.ring();
            }
            let _ = file.close().await;
        });
        Ok(Self { eventfd, is_cut, task })
    }

    /// What the ring signals.
    pub(crate) fn eventfd(&self) -> &OwnedFd {
        &self.eventfd
    }

    /// Ends the task, so that no read is left with the kernel.
    pub(crate) async fn cut(self) {
        self.is_cut.set(true);
        signal(self.eventfd.as_fd());
        self.task.await;
    }
}
