//! The socket ring of one core: an io_uring with the few operations we use, each named after what it does for us.
//!
//! One thread creates, fills and enters it (`SINGLE_ISSUER`), and the kernel completes work only while that thread
//! is inside an enter (`DEFER_TASKRUN`). Nothing here knows connections or cores. Operations that lend memory to
//! the kernel are `unsafe` and say until when.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::buffers::{BUFFER_BYTES, BUFFER_GROUP, Buffers};
use super::files::{Files, Socket};
use super::token::{Op, Token};
use crate::base::ids::ShardId;

/// Operations that fit before an enter is needed; more only cost an extra enter. The queue is walked round and round,
/// so it should stay in the nearest cache: 64 bytes each.
const SUBMISSIONS: u32 = 256;

/// Completions that fit before the kernel keeps them in a list of its own (slower, never lost).
const COMPLETIONS: u32 = 2048;

const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: libc::c_uint = 20;

/// One finished operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// Bytes or a descriptor; below zero: an errno, negated.
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// A multishot operation stays armed after this completion.
    pub(crate) fn stays_armed(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that holds the bytes.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// The ring and the receive buffers lent to it.
pub(crate) struct SocketRing {
    // Declared before the buffers: dropped first, so the kernel is done with them.
    ring: IoUring,
    pub(crate) buffers: Buffers,
    files: Files,
    /// The ring as `io_uring_enter` wants it: an index registered with this thread, or the plain descriptor.
    enter_fd: RawFd,
    enter_flags: u32,
}

/// Builds a ring of the kind we use; preflight tries the same one.
pub(crate) fn build_ring(submissions: u32, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(completions).dontfork();
    builder.build(submissions)
}

impl SocketRing {
    /// Builds the ring on the thread that will use it.
    pub(crate) fn new(receive_buffers: u16) -> io::Result<Self> {
        let ring = build_ring(SUBMISSIONS, COMPLETIONS)?;
        let buffers = Buffers::register(&ring, receive_buffers, BUFFER_BYTES)?;
        let (enter_fd, enter_flags) = match register_with_thread(ring.as_raw_fd()) {
            Some(index) => (index, ENTER_REGISTERED_RING),
            None => (ring.as_raw_fd(), 0),
        };
        let files = Files::register(&ring);
        Ok(Self { ring, buffers, files, enter_fd, enter_flags })
    }

    /// Where other cores' doorbells go.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Accepts on `listener` until told otherwise.
    pub(crate) fn accept(&mut self, listener: BorrowedFd, number: u64) {
        let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        self.push(accept.build(), Token::new(Op::Accept, number));
    }

    /// How the operations of a socket name it from here on: by the given place of the ring's table if that exists.
    pub(crate) fn keep(&mut self, place: usize, socket: RawFd) -> Socket {
        self.files.keep(&self.ring, place, socket)
    }

    /// Receives into provided buffers until cancelled, at the end of the stream, or out of buffers.
    pub(crate) fn receive(&mut self, socket: Socket, token: Token) {
        let receive = match socket {
            Socket::Kept(place) => opcode::RecvMulti::new(place, BUFFER_GROUP).build(),
            Socket::Plain(descriptor) => opcode::RecvMulti::new(descriptor, BUFFER_GROUP).build(),
        };
        self.push(receive, token);
    }

    /// Sends as much as the socket takes at once. Completes only when it took less than `bytes` (with the count) or
    /// failed: once an enter has submitted everything and its completions are drained, silence means all was sent.
    ///
    /// Why this is so: `MSG_DONTWAIT` marks the request as one that never waits, so the kernel finishes it inside
    /// the submitting enter; `MSG_WAITALL` makes a short send count as failed; the completion of a success is
    /// skipped. It saves one completion per reply and, as the wait that follows is not ended by our own sends, one
    /// enter per round. Preflight checks that the kernel does report short sends.
    ///
    /// # Safety
    /// The `len` bytes at `bytes` stay valid and unchanged until the operation is settled as described.
    pub(crate) unsafe fn send_now(&mut self, socket: Socket, bytes: *const u8, len: usize, token: Token) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;
        self.push(send(socket, bytes, len, flags).flags(squeue::Flags::SKIP_SUCCESS), token);
    }

    /// Sends all of it, waiting for room as long as it takes. Completes once.
    ///
    /// # Safety
    /// The `len` bytes at `bytes` stay valid and unchanged until the completion.
    pub(crate) unsafe fn send_wait(&mut self, socket: Socket, bytes: *const u8, len: usize, token: Token) {
        self.push(send(socket, bytes, len, libc::MSG_NOSIGNAL | libc::MSG_WAITALL), token);
    }

    /// Connects. Completes once.
    ///
    /// # Safety
    /// The address stays valid and unchanged until the completion.
    pub(crate) unsafe fn connect(
        &mut self,
        socket: RawFd,
        address: *const libc::sockaddr,
        len: libc::socklen_t,
        token: Token,
    ) {
        self.push(opcode::Connect::new(types::Fd(socket), address, len).build(), token);
    }

    /// Ends one operation early; its own completion tells that it is over.
    pub(crate) fn cancel(&mut self, token: Token) {
        let cancel = opcode::AsyncCancel::new(token.pack()).build();
        self.push(cancel.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::Forgotten, 0));
    }

    /// Ends every operation on a socket early.
    pub(crate) fn cancel_all_of(&mut self, socket: RawFd) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::fd(types::Fd(socket)).all()).build();
        self.push(cancel.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::Forgotten, 0));
    }

    /// Ends every operation of the ring early.
    pub(crate) fn cancel_everything(&mut self) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.push(cancel.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::Forgotten, 0));
    }

    /// Closes a socket that was kept and has no operation left.
    pub(crate) fn close_kept(&mut self, kept: Socket, socket: RawFd) {
        self.files.forget(&self.ring, kept);
        self.close(socket);
    }

    /// Closes a socket that has no operation left. The descriptor belongs to the kernel from here on.
    pub(crate) fn close(&mut self, socket: RawFd) {
        let close = opcode::Close::new(types::Fd(socket)).build();
        self.push(close.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::Forgotten, 0));
    }

    /// Wakes the core whose ring this is; goes out with the next enter.
    pub(crate) fn ring_bell(&mut self, target: ShardId, target_ring: RawFd) {
        let bell = Token::new(Op::Bell, 0).pack();
        let message = opcode::MsgRingData::new(types::Fd(target_ring), 0, bell, None).build();
        self.push(message.flags(squeue::Flags::SKIP_SUCCESS), Token::new(Op::BellFailed, u64::from(target.0)));
    }

    /// Completes every time `descriptor` (an eventfd) is written to.
    pub(crate) fn watch(&mut self, descriptor: BorrowedFd) {
        let poll = opcode::PollAdd::new(types::Fd(descriptor.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push(poll.build(), Token::new(Op::Wake, 0));
    }

    /// Registers the eventfd that is signalled on completions while [`SocketRing::signal_completions`] says so.
    pub(crate) fn register_eventfd(&mut self, eventfd: BorrowedFd) -> io::Result<()> {
        self.signal_completions(false);
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())
    }

    /// Whether completions also signal the registered eventfd: only wanted while the core sleeps in its executor.
    pub(crate) fn signal_completions(&mut self, wanted: bool) {
        let completions = self.ring.completion();
        if wanted { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    /// Submits everything and gives the kernel a chance to complete things, without waiting.
    pub(crate) fn enter(&mut self) {
        self.enter_for(0, None);
    }

    /// Submits everything and waits for a completion, at most `timeout_us`.
    ///
    /// Not for several for a while, which newer kernels offer: it saved 3 to 5 % of CPU per request where clients are
    /// slower than the server and nothing where they are not, and cost 100 us of median latency at half load.
    pub(crate) fn wait(&mut self, timeout_us: u64) {
        if timeout_us == 0 {
            return self.enter();
        }
        let limit = types::Timespec::new().sec(timeout_us / 1_000_000).nsec((timeout_us % 1_000_000) as u32 * 1000);
        self.enter_for(1, Some(&types::SubmitArgs::new().timespec(&limit)));
    }

    /// Whether operations are queued that the kernel has not taken yet.
    pub(crate) fn has_unsubmitted(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Whether the kernel keeps completions for which the queue had no room; the next enter after a drain brings them.
    pub(crate) fn has_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Whether completions are ready to be drained.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Moves all ready completions into `into`, in order.
    pub(crate) fn drain(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.ring.completion().map(|entry| Completion {
            token: Token::unpack(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    // Inlined, and the entry not needed again, so that it is made where the kernel reads it: made elsewhere it is written
    // field by field and read back in wider pieces, for which the processor waits (measured: half of a push).
    #[inline(always)]
    fn push(&mut self, entry: squeue::Entry, token: Token) {
        if self.ring.submission().is_full() {
            self.make_room();
        }
        // SAFETY: what the entry points to, if anything, is kept alive by the contracts of the unsafe methods above;
        // the others point to nothing or to descriptors.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(token.pack())) };
        assert!(pushed.is_ok(), "there is room");
    }

    // Full in the middle of a round: hands over what is there. The kernel may be short of memory for a moment, but an
    // endless refusal would be a bug of ours or its, and spinning would hide it.
    #[cold]
    fn make_room(&mut self) {
        let mut attempts = 0;
        while self.ring.submission().is_full() {
            assert!(attempts < 10_000, "the kernel takes no submissions and the queue is full");
            attempts += 1;
            self.enter();
        }
    }

    fn enter_for(&mut self, want: u32, args: Option<&types::SubmitArgs>) {
        let queued = self.ring.submission().len() as u32;
        let (arg, arg_len) = match args {
            Some(args) => (std::ptr::from_ref(args).cast::<libc::c_void>(), size_of::<types::SubmitArgs>()),
            None => (std::ptr::null(), 0),
        };
        let flags = self.enter_flags | ENTER_GETEVENTS | if args.is_some() { ENTER_EXT_ARG } else { 0 };
        // SAFETY: the descriptor is our ring's; `SubmitArgs` is the kernel's `io_uring_getevents_arg` (repr of the
        // io-uring crate, which passes it the same way) and outlives the call, as does the limit it points to.
        let entered =
            unsafe { libc::syscall(libc::SYS_io_uring_enter, self.enter_fd, queued, want, flags, arg, arg_len) };
        if entered < 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // The limit passed, a signal came, or the kernel is short of something for a moment: the caller's
                // next round tries again with whatever is still queued.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => {}
                _ => panic!("io_uring_enter: {error}"),
            }
        }
    }
}

fn send(socket: Socket, bytes: *const u8, len: usize, flags: i32) -> squeue::Entry {
    match socket {
        Socket::Kept(place) => opcode::Send::new(place, bytes, len as u32).flags(flags).build(),
        Socket::Plain(descriptor) => opcode::Send::new(descriptor, bytes, len as u32).flags(flags).build(),
    }
}

/// Registers the ring with the calling thread, which spares each enter the look-up of its descriptor in a process of
/// several threads. Answers the index, or nothing where the kernel will not.
fn register_with_thread(ring: RawFd) -> Option<RawFd> {
    #[repr(C)]
    struct Update {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let mut update = Update { offset: u32::MAX, reserved: 0, data: ring as u64 };
    // SAFETY: `Update` has the layout of `io_uring_rsrc_update`, and the kernel writes only to its offset.
    let registered = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_RING_FDS, &raw mut update, 1) };
    (registered == 1).then_some(update.offset as RawFd)
}
