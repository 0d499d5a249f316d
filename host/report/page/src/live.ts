// A page that is served goes on with its run: the server tells that something is new, the page asks for it and takes it in where it stands.

import { Store, type Source } from './episodes/store';
import type { Detail, Index, PageData, Part, Picture } from './types';

/** How many times as long as it took to take something in the page rests: the run has the same cores. */
const REST = 20;
/** Longest rest in milliseconds: on a busy machine the time that passes is not the page's own. */
const LONGEST_REST = 10_000;

export type Connection = 'live' | 'lost' | 'over';

async function asked<T>(path: string): Promise<T> {
  const answer = await fetch(path, { cache: 'no-store' });
  if (!answer.ok) throw new Error(`${path.split('?')[0]} answered ${answer.status}`);
  return await answer.json() as T;
}

/** Episodes in full and images, asked for when they are looked at. */
class Server implements Source {
  digests: string[] = [];
  private readonly details = new Map<number, Promise<Detail>>();
  private readonly pictures = new Map<number, Promise<Picture>>();

  constructor(private readonly index: Index, private readonly generation: number) {}

  detail(at: number): Promise<Detail> {
    return this.once(this.details, at, () => asked<Detail>(`episode/${this.index.at[at]}?generation=${this.generation}`));
  }

  picture(image: number): Promise<Picture> {
    return this.once(this.pictures, image, () => asked<Picture>(`picture/${encodeURIComponent(this.digests[image] ?? '')}`));
  }

  private once<T>(known: Map<number, Promise<T>>, key: number, ask: () => Promise<T>): Promise<T> {
    let answer = known.get(key);
    if (answer === undefined) {
      answer = ask();
      known.set(key, answer);
      // What failed may be asked for again.
      answer.catch(() => known.delete(key));
    }
    return answer;
  }
}

const COLUMNS = ['run', 'step', 'group', 'rollout', 'reward', 'accuracy', 'advantage', 'flags', 'tool_ms', 'least_logprob', 'chunk', 'at'] as const;
const TEXTS = ['source', 'sample', 'class', 'question', 'truth', 'answer', 'tools', 'ending'] as const;

/** The list of a live page: parts of it, put together as they come. */
export class LiveList {
  private generation = -1;
  private index: Index | null = null;
  private server: Server | null = null;
  private store: Store | null = null;
  private readonly strings = new Map<string, number>();
  private readonly images = new Map<string, number>();

  /** The list as far as `data` says that it goes. */
  async upTo(data: PageData): Promise<Store> {
    const live = data.live;
    if (live === null) throw new Error('the page is not served');
    if (this.store === null || live.generation !== this.generation) return this.begin(live.generation);
    if (this.store.length < live.listed) this.add(await asked<Part>(`index?generation=${this.generation}&from=${this.store.length}`));
    return this.store;
  }

  private async begin(generation: number): Promise<Store> {
    const part = await asked<Part>(`index?generation=${generation}`);
    this.strings.clear();
    this.images.clear();
    const index: Index = { ...part.index, strings: [], pieces: [{}], images: 0, turns: [], image: [], others: part.index.others.map(() => ({ total: [], accuracy: [] })) };
    for (const name of [...COLUMNS, ...TEXTS]) (index[name] as unknown[]) = [];
    this.generation = generation;
    this.index = index;
    this.server = new Server(index, generation);
    this.store = new Store(index, this.server);
    this.add(part);
    return this.store;
  }

  private add({ from, index: part, digests }: Part): void {
    const { index, server } = this;
    if (index === null || server === null || from !== index.run.length) return;
    const text = part.strings.map((string) => this.number(this.strings, string, index.strings));
    const image = digests.map((digest) => this.number(this.images, digest, server.digests));
    for (const name of COLUMNS) (index[name] as unknown[]).push(...(part[name] as unknown[]));
    for (const name of TEXTS) index[name].push(...part[name].map((number) => text[number] ?? 0));
    index.turns.push(...part.turns.map((turns) => turns.map((number) => text[number] ?? 0)));
    index.image.push(...part.image.map((images) => images.map((number) => image[number] ?? 0)));
    index.others.forEach((columns, at) => {
      columns.total.push(...(part.others[at]?.total ?? []));
      columns.accuracy.push(...(part.others[at]?.accuracy ?? []));
    });
    Object.assign(index.pieces[0] ?? {}, part.pieces[0]);
    index.images = server.digests.length;
  }

  private number(known: Map<string, number>, key: string, all: string[]): number {
    const there = known.get(key);
    if (there !== undefined) return there;
    known.set(key, all.length);
    return all.push(key) - 1;
  }
}

/** Calls `take` with what the run is now, whenever it has changed, and `tell` when the connection does. */
export function follow(first: PageData, take: (data: PageData) => Promise<void>, tell: (connection: Connection) => void): void {
  let [shown, wanted, busy] = [first.live?.version ?? 0, 0, false];
  const update = async (): Promise<void> => {
    // Nobody looks at a hidden page.
    if (busy || wanted === shown || document.hidden) return;
    busy = true;
    const start = performance.now();
    try {
      const data = await asked<PageData>('data');
      await take(data);
      shown = data.live?.version ?? shown;
      // The server may have gone on since it told of this version; it tells of the next one itself.
      wanted = Math.max(wanted, shown);
    } catch {
      // The stream of events says whether the server is still there, and tells the version again when it is back.
    }
    setTimeout(() => { busy = false; void update(); }, Math.min(LONGEST_REST, Math.max(200, REST * (performance.now() - start))));
  };
  const events = new EventSource('events');
  events.addEventListener('version', (event) => { wanted = Number((event as MessageEvent<string>).data); tell('live'); void update(); });
  events.addEventListener('error', () => tell(events.readyState === EventSource.CLOSED ? 'over' : 'lost'));
  document.addEventListener('visibilitychange', () => void update());
}
