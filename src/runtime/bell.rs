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

/// The shortest visit to the reactor.
const VISIT_MIN_US: u64 = 10;

/// How long glommio can sleep by mistake, see [`Wire::connect`].
const HEARTBEAT: Duration = Duration::from_millis(10);

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

    /// Visits glommio's reactor, and sleeps there until rung, at most `timeout_us`.
    pub(crate) async fn sleep(&self, timeout_us: u64) {
        // Never ready at once: a pump that is runnable again keeps the executor from its reactor.
        let timeout_us = if self.is_rung.take() { VISIT_MIN_US } else { timeout_us.max(VISIT_MIN_US) };
        let mut timer = pin!(Timer::new(Duration::from_micros(timeout_us)));
        poll_fn(|context| {
            if timer.as_mut().poll(context).is_ready() || self.is_rung.take() {
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
    heartbeat: glommio::Task<()>,
}

impl Wire {
    /// Begins listening, inside a glommio executor, and keeps that executor awake.
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
        // glommio 0.9 takes "time is up before the first task ran" for "there are no tasks" and sleeps with runnable
        // ones (`run_task_queues`). Such time limits are switched off (see `start`), but the end of a rename or
        // remove can have the same effect. With a timer outstanding at all times it cannot sleep for long.
        let over = Rc::clone(&is_cut);
        let heartbeat = glommio::spawn_local(async move {
            while !over.get() {
                Timer::new(HEARTBEAT).await;
            }
        });
        Ok(Self { eventfd, is_cut, task, heartbeat })
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
        self.heartbeat.await;
    }
}
