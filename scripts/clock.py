"""Time as netchaos.py lived it: while the whole run stands still (a suspended machine, a frozen container), it does too.

Otherwise links would seem to lag, faults would pile up and kills would come too soon after writes, for no fault of the
nodes, which stood still as well.
"""
import threading
import time

# A gap between two looks that is longer than this was no time of ours.
STALL_S = 1.0


class Clock:
    def __init__(self):
        self.lock, self.last, self.stalled_s = threading.Lock(), time.monotonic(), 0.0
        self.began = self.last
        threading.Thread(target=self.look, daemon=True).start()

    def now(self):
        """Seconds since the begin."""
        with self.lock:
            now = time.monotonic()
            if now - self.last > STALL_S:
                self.stalled_s += now - self.last
            self.last = now
            return now - self.began - self.stalled_s

    def look(self):
        while True:
            time.sleep(0.1)
            self.now()

    def wait_until(self, when, event):
        """Whether the event came first."""
        while (left := when - self.now()) > 0:
            if event.wait(min(left, 0.5)):
                return True
        return event.is_set()
