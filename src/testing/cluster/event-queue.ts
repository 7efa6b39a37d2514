/** What happens when: a binary heap over virtual time. Events of one moment come out in the order in which they went in. */

interface Due<Event> {
  readonly at: number;
  readonly order: number;
  readonly event: Event;
}

export class EventQueue<Event> {
  readonly #heap: Due<Event>[] = [];
  #order = 0;

  get size(): number {
    return this.#heap.length;
  }

  /** When the next event is due; never, if there is none. */
  get nextAt(): number {
    return this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  push(at: number, event: Event): void {
    const heap = this.#heap;
    const due = { at, order: this.#order++, event };
    let hole = heap.length;
    heap.push(due);
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      const parent = heap[above];
      // Newer than its parent, it stays below it at the same moment: the order need not be looked at.
      if (parent === undefined || parent.at <= at) break;
      heap[hole] = parent;
      hole = above;
    }
    heap[hole] = due;
  }

  pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first?.event;
    let hole = 0;
    for (;;) {
      const left = heap[2 * hole + 1];
      const right = heap[2 * hole + 2];
      if (left === undefined) break;
      const rightFirst = right !== undefined && isBefore(right, left);
      const child = rightFirst ? right : left;
      if (isBefore(last, child)) break;
      heap[hole] = child;
      hole = 2 * hole + (rightFirst ? 2 : 1);
    }
    heap[hole] = last;
    return first.event;
  }
}

function isBefore<Event>(a: Due<Event>, b: Due<Event>): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
