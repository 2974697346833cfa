// The exact scan for a CPU. The rules are those of scores.py and scan_torch.py, which compute the
// same without this file; here is only speed.
//
// Stored vectors are read where they lie, in the mapped files, each once for all queries: a thread
// takes a tile of rows that fits its cache and multiplies it with panels of 16 queries. These float32
// sums only *screen*, with a bound on their error; whatever may reach a query's limit is judged at
// once, while it is in the cache, by its exact score, and the limit is always the exact score of the
// k-th best so far. So a query never holds more than k rows, and the result does not depend on tiles
// or threads.
//
// Plain C interface, no torch headers: it compiles in seconds and is called through ctypes.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#ifdef __F16C__
#include <immintrin.h>
#endif

using Index = std::int64_t;

// Stored vectors; mirrored by a ctypes structure in scan_cpu.py.
struct Stored {
  const void* const* segments;  // (count,) arrays of rows
  const Index* starts;          // (count + 1,) row numbers
  Index count, dim;
  std::int32_t half;  // float16, not float32
};

namespace {

constexpr Index LANES = 8;
constexpr Index AHEAD = 8;  // rows fetched before they are asked for
constexpr Index TILE_ELEMENTS = 1 << 16;  // of a tile of rows: 256 kB, in the second-level cache
using Lanes = float __attribute__((vector_size(4 * LANES), aligned(4)));

inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#ifdef __FMA__
  return Lanes(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
#else
  return a * b + c;
#endif
}

inline float widen(std::uint16_t half) {
  const std::uint32_t magnitude = std::uint32_t(half & 0x7fff) << 13;
  const bool tiny = magnitude < 0x00800000, special = magnitude >= 0x0f800000;
  const std::uint32_t bits = magnitude + (special ? 0x70000000 : tiny ? 0x38800000 : 0x38000000);
  float value;
  std::memcpy(&value, &bits, 4);
  if (tiny) value -= 0x1p-14f;  // subnormal: 2^-14 was added with the exponent
  return half & 0x8000 ? -value : value;
}

inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }

inline Lanes load(const std::uint16_t* from) {
#ifdef __F16C__
  return Lanes(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  Lanes lanes;
  for (Index lane = 0; lane < LANES; ++lane) lanes[lane] = widen(from[lane]);
  return lanes;
#endif
}

// The last `count` < LANES values, and zeros.
template <class T>
inline Lanes load_part(const T* from, Index count) {
  T padded[LANES] = {};
  std::memcpy(padded, from, count * sizeof(T));
  return load(padded);
}

inline float sum(Lanes lanes) {
  float total = 0.0f;
  for (Index lane = 0; lane < LANES; ++lane) total += lanes[lane];
  return total;
}

// Calls step(d, number of the accumulator, lanes of a, lanes of b) over two vectors.
template <class A, class B, class Step>
inline void pairwise(const A* a, const B* b, Index dim, Step step) {
  Index d = 0;
  for (; d + 4 * LANES <= dim; d += 4 * LANES)
    for (int part = 0; part < 4; ++part)
      step(part, load(a + d + part * LANES), load(b + d + part * LANES));
  for (; d + LANES <= dim; d += LANES) step(0, load(a + d), load(b + d));
  if (d < dim) step(0, load_part(a + d, dim - d), load_part(b + d, dim - d));
}

template <class T>
inline float product(const float* query, const T* row, Index dim) {
  Lanes sums[4] = {};
  pairwise(query, row, dim,
           [&](int part, Lanes q, Lanes x) { sums[part] = multiply_add(q, x, sums[part]); });
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
inline float squared_length(const T* row, Index dim) {
  Lanes sums[4] = {};
  pairwise(row, row, dim,
           [&](int part, Lanes x, Lanes) { sums[part] = multiply_add(x, x, sums[part]); });
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The product and the squared length of the row, in one pass.
template <class T>
inline float product_and_square(const float* query, const T* row, Index dim, float& square) {
  Lanes sums[4] = {}, squares[4] = {};
  pairwise(query, row, dim, [&](int part, Lanes q, Lanes x) {
    sums[part] = multiply_add(q, x, sums[part]);
    squares[part] = multiply_add(x, x, squares[part]);
  });
  square = sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
inline float squared_distance(const float* query, const T* row, Index dim) {
  Lanes sums[4] = {};
  pairwise(query, row, dim, [&](int part, Lanes q, Lanes x) {
    const Lanes difference = q - x;
    sums[part] = multiply_add(difference, difference, sums[part]);
  });
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
inline void widen_row(const T* row, Index dim, float* out) {
  Index d = 0;
  for (; d + LANES <= dim; d += LANES) *reinterpret_cast<Lanes*>(out + d) = load(row + d);
  if (d == dim) return;
  const Lanes rest = load_part(row + d, dim - d);
  for (Index lane = 0; d < dim; ++d, ++lane) out[d] = rest[lane];
}

struct Entry {
  double score;
  Index row;
};

inline bool better(const Entry& a, const Entry& b) {
  return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// The k best rows of a query so far; a heap with the worst on top once there are k. Threads take
// turns to change it; a limit read meanwhile is at most too low, which costs a judgement.
struct Best {
  std::vector<Entry> entries;
  std::atomic<double> limit;  // what a score must reach to count
  std::atomic_flag busy = ATOMIC_FLAG_INIT;

  void offer(const Entry& entry, Index k) {
    while (busy.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
    if (Index(entries.size()) < k) {
      entries.push_back(entry);
      if (Index(entries.size()) == k) {
        std::make_heap(entries.begin(), entries.end(), better);
        raise();
      }
    } else if (better(entry, entries.front())) {
      std::pop_heap(entries.begin(), entries.end(), better);
      entries.back() = entry;
      std::push_heap(entries.begin(), entries.end(), better);
      raise();
    }
    busy.clear(std::memory_order_release);
  }

  void raise() {
    if (entries.front().score > limit.load(std::memory_order_relaxed))
      limit.store(entries.front().score, std::memory_order_relaxed);
  }
};

constexpr double ROUNDOFF = 0x1p-24, TINY = 0x1p-124, HUGE = 1e37;  // as in scores.py

}  // namespace

// A search under way.
struct Search {
  const float* queries;
  Index count, dim, k;
  bool cosine;
  double lowest;
  double unit, tiny;                 // bounds on the error of a float32 sum
  std::vector<double> lengths;       // of the queries
  std::unique_ptr<Best[]> best;      // by query
  Index width;                       // queries of a panel
  std::vector<float> panels;         // (panels, dim, width), zeros where queries end
};

namespace {

// The exact score: terms in float64, added by halves, as in scores.py.
double judge(const Search& search, const float* query, const float* row) {
  const Index dim = search.dim;
  Index width = 1;
  while (width < dim) width *= 2;
  thread_local std::vector<double> buffer;
  buffer.resize(width);
  double* terms = buffer.data();
  if (search.cosine) {
#pragma omp simd
    for (Index d = 0; d < dim; ++d) terms[d] = double(query[d]) * double(row[d]);
  } else {
#pragma omp simd
    for (Index d = 0; d < dim; ++d) {
      const double difference = double(query[d]) - double(row[d]);
      terms[d] = difference * difference;
    }
  }
  std::fill(terms + dim, terms + width, 0.0);
  while (width > 1) {
    width /= 2;
#pragma omp simd
    for (Index d = 0; d < width; ++d) terms[d] += terms[d + width];
  }
  const double score = search.cosine ? terms[0] : -std::sqrt(terms[0]);
  return std::isnan(score) ? -INFINITY : score;
}

void judge_and_offer(Search& search, Index query, const float* row, Index number) {
  const double score = judge(search, search.queries + query * search.dim, row);
  if (score >= search.best[query].limit.load(std::memory_order_relaxed))
    search.best[query].offer({score, number}, search.k);
}

// A float not above `value`.
inline float round_down(double value) { return std::nextafterf(float(value), -INFINITY); }

// What a screened value must reach: <q, x>, or <q, x> - |x|^2 / 2, of rows not longer than
// `longest`. See scores.screening_margins.
float screened_limit(const Search& search, Index query, double longest) {
  const double limit = search.best[query].limit.load(std::memory_order_relaxed);
  const double length = search.lengths[query], square = length * length;
  if (limit > 0.0 && !search.cosine) return INFINITY;  // no distance is negative
  if (!(length * longest < HUGE)) return -INFINITY;    // the product may overflow
  double margin = search.unit * length * longest + search.tiny * (1.0 + length + longest);
  if (search.cosine) return round_down(limit - margin);
  if (!(longest * longest < HUGE)) return -INFINITY;
  margin += 8.0 * ROUNDOFF * longest * longest;
  const double distance = limit * limit;
  return round_down((square - distance) / 2 - 1e-12 * (square + distance) - margin);
}

// Kept rows, gathered until they fill a thread's cache.
struct Tile {
  std::vector<const void*> stored;
  std::vector<Index> numbers;
  std::vector<const float*> rows;
  std::vector<float> wide, halves;  // float16 made float32; half of the squared lengths

  Index size() const { return Index(numbers.size()); }
  void clear() {
    stored.clear();
    numbers.clear();
  }
};

// One query against a row as it is stored. What float32 cannot hold is judged.
template <class T>
void search_row(Search& search, const T* row, Index number) {
  const Index dim = search.dim;
  const double limit = search.best[0].limit.load(std::memory_order_relaxed);
  if (search.cosine) {
    float square;
    const double value = product_and_square(search.queries, row, dim, square);
    const double length = std::sqrt(1.001 * double(square));  // not too short
    const double lengths = search.lengths[0] * length;
    const double margin = search.unit * lengths + search.tiny * (1.0 + search.lengths[0] + length);
    if (value + margin < limit && lengths < HUGE) return;
  } else {
    if (limit > 0.0) return;  // no distance is negative
    const double value = squared_distance(search.queries, row, dim);  // its terms are all positive
    if (value * (1.0 - search.unit) - search.tiny > limit * limit && value < HUGE) return;
  }
  thread_local std::vector<float> wide;
  wide.resize(dim);
  widen_row(row, dim, wide.data());
  judge_and_offer(search, 0, wide.data(), number);
}

// ROWS rows times a panel of queries: `values` (ROWS, PARTS * LANES).
template <int ROWS, int PARTS>
inline void multiply(const float* const* rows, const float* panel, Index dim, float* values) {
  Lanes sums[ROWS][PARTS] = {};
  for (Index d = 0; d < dim; ++d, panel += PARTS * LANES) {
    Lanes queries[PARTS];
    for (int part = 0; part < PARTS; ++part) queries[part] = load(panel + part * LANES);
    for (int r = 0; r < ROWS; ++r) {
      const Lanes x = rows[r][d] - Lanes{};
      for (int part = 0; part < PARTS; ++part)
        sums[r][part] = multiply_add(x, queries[part], sums[r][part]);
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int part = 0; part < PARTS; ++part)
      *reinterpret_cast<Lanes*>(values + (r * PARTS + part) * LANES) = sums[r][part];
}

// The tile against the queries from `first` on.
template <int ROWS, int PARTS>
void search_panel(Search& search, const Tile& tile, Index first, const float* panel,
                  double longest) {
  constexpr Index WIDTH = PARTS * LANES;
  float limits[WIDTH], values[ROWS * WIDTH];
  const Index queries = std::min(WIDTH, search.count - first);
  std::fill(limits, limits + WIDTH, INFINITY);
  for (Index q = 0; q < queries; ++q) limits[q] = screened_limit(search, first + q, longest);
  for (Index start = 0; start < tile.size(); start += ROWS) {
    multiply<ROWS, PARTS>(tile.rows.data() + start, panel, search.dim, values);
    const Index rows = std::min(Index(ROWS), tile.size() - start);
    for (Index r = 0; r < rows; ++r) {
      float* row_values = values + r * WIDTH;
      const float half = search.cosine ? 0.0f : tile.halves[start + r];
      int any = 0;
#pragma omp simd reduction(| : any)
      for (Index q = 0; q < WIDTH; ++q) any |= int(!(row_values[q] - half < limits[q]));
      if (!any) continue;
      for (Index q = 0; q < queries; ++q) {
        if (row_values[q] - half < limits[q]) continue;
        judge_and_offer(search, first + q, tile.rows[start + r], tile.numbers[start + r]);
        limits[q] = screened_limit(search, first + q, longest);
      }
    }
  }
}

template <class T>
void search_tile(Search& search, Tile& tile) {
  const Index dim = search.dim, size = tile.size();
  if (search.count == 1) {
    // A processor fetches ahead by itself, but not beyond a page of 4 kB, two rows of 512 floats.
    const Index bytes = dim * Index(sizeof(T));
    for (Index i = 0; i < size; ++i) {
      const char* later = static_cast<const char*>(tile.stored[std::min(i + AHEAD, size - 1)]);
      for (Index byte = 0; byte < bytes; byte += 64) __builtin_prefetch(later + byte);
      search_row(search, static_cast<const T*>(tile.stored[i]), tile.numbers[i]);
    }
    return;
  }
  constexpr bool copied = sizeof(T) != sizeof(float);
  if (copied) tile.wide.resize(size * dim);
  tile.halves.resize(size);
  tile.rows.resize(size);
  double most = 0.0;
  for (Index i = 0; i < size; ++i) {
    const T* row = static_cast<const T*>(tile.stored[i]);
    if (copied) widen_row(row, dim, tile.wide.data() + i * dim);
    tile.rows[i] = copied ? tile.wide.data() + i * dim : reinterpret_cast<const float*>(row);
    const float square = squared_length(tile.rows[i], dim);
    tile.halves[i] = square / 2;
    most = std::isnan(square) ? INFINITY : std::max(most, double(square));
  }
  tile.rows.resize(size + 16, tile.rows[0]);  // whole groups of rows are multiplied
  const double longest = std::sqrt(1.001 * most);  // the sum has an error, too
  const float* panel = search.panels.data();
  for (Index first = 0; first < search.count; first += search.width, panel += search.width * dim) {
    if (search.width == LANES)
      search_panel<12, 1>(search, tile, first, panel, longest);
    else
      search_panel<6, 2>(search, tile, first, panel, longest);
  }
}

}  // namespace

extern "C" {

Search* begin_search(const float* queries, Index count, Index dim, Index k, std::int32_t cosine,
                     double lowest) {
  const double terms = double(dim + 8) * ROUNDOFF;
  const double unit = terms > 0.5 ? INFINITY : 1.01 * terms / (1.0 - terms);
  const Index width = count > LANES ? 2 * LANES : LANES;
  Search* search = new Search{queries, count, dim,   k, cosine != 0, lowest, unit, double(dim) * TINY,
                              {},      {},    width, {}};
  search->lengths.resize(count);
  search->best.reset(new Best[count]);
  search->panels.resize((count + width - 1) / width * width * dim);
  for (Index q = 0; q < count; ++q) {
    search->best[q].limit = lowest;
    float* panel = search->panels.data() + q / width * width * dim + q % width;
    double square = 0.0;
    for (Index d = 0; d < dim; ++d) {
      const float value = queries[q * dim + d];
      square += double(value) * double(value);
      panel[d * width] = value;
    }
    search->lengths[q] = std::sqrt(square);
  }
  return search;
}

// Looks at all stored rows with `keep` (null: all), of which there are `kept`.
void search_rows(Search* search, const Stored* stored, const bool* keep, Index kept, int threads) {
  const Index total = stored->starts[stored->count];
  const Index tile_rows = std::clamp(TILE_ELEMENTS / stored->dim, Index(12), Index(1024));
  // rows that hold about a tile's worth of kept ones, yet some work for every thread
  const double share = double(kept) / double(total);
  const Index block = std::clamp(Index(double(tile_rows) / share), tile_rows, 64 * tile_rows);
  const std::size_t row_bytes = (stored->half ? 2 : 4) * stored->dim;
#pragma omp parallel num_threads(threads)
  {
    Tile tile;
    const auto flush = [&] {
      if (tile.size() == 0) return;
      if (stored->half)
        search_tile<std::uint16_t>(*search, tile);
      else
        search_tile<float>(*search, tile);
      tile.clear();
    };
#pragma omp for schedule(dynamic, 4)
    for (Index first = 0; first < total; first += block) {
      const Index* above = std::upper_bound(stored->starts, stored->starts + stored->count, first);
      Index home = above - stored->starts - 1;
      const Index stop = std::min(first + block, total);
      for (Index row = first; row < stop; ++row) {
        if (keep && !keep[row]) continue;
        while (row >= stored->starts[home + 1]) ++home;
        const char* segment = static_cast<const char*>(stored->segments[home]);
        tile.stored.push_back(segment + (row - stored->starts[home]) * row_bytes);
        tile.numbers.push_back(row);
        if (tile.size() == tile_rows) flush();
      }
      if (!keep) flush();  // a tile of neighbours is read at the speed of the memory
    }
    flush();
  }
}

// How many rows each query has found.
void found_sizes(const Search* search, Index* sizes) {
  for (Index q = 0; q < search->count; ++q) sizes[q] = Index(search->best[q].entries.size());
}

// What they are, best first, query by query.
void take_found(Search* search, const Index* starts, Index* rows, double* scores, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) if (search->count > 64)
  for (Index q = 0; q < search->count; ++q) {
    auto& entries = search->best[q].entries;
    std::sort(entries.begin(), entries.end(), better);
    Index place = starts[q];
    for (const Entry& entry : entries) {
      rows[place] = entry.row;
      scores[place++] = entry.score;
    }
  }
}

void end_search(Search* search) { delete search; }

}  // extern "C"
