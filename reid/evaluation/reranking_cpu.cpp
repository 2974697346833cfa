// Neighbour search and k-reciprocal sets for a CPU. The rules are those of grid.py, neighbours.py,
// reciprocal.py and reranking.py, which compute the same without this file; here is only speed.
//
// Points lie on a grid: their coordinates are integers so small that a squared distance is exact in
// float64 whatever the order of summation. float32 products only *screen*, with a bound on their
// error; what they cannot decide is judged by the exact distance.
//
// Plain C interface, no torch headers: it compiles in seconds and is called through ctypes.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

using Index = std::int64_t;
using Item = std::int32_t;

namespace {

constexpr Index CHUNK = 64;  // screened values looked at together; nearly always none survives

}  // namespace

// One side of the search; mirrored by ctypes structures in reranking_cpu.py.
struct Points {
  const float* grid;      // (n, dim) integers
  const double* squares;  // (n,) squared lengths
  const float* halves;    // (n,) half of them
  const float* margins;   // (n,) bound on the error of a screened value
  Index dim;
};

// For every point the `keep` smallest of sign * (half squared distance), among `capacity` places.
// Everything that may still belong to them is kept: values not above `limits`.
struct Lists {
  Item* items;    // (n, capacity)
  float* values;  // (n, capacity), screened
  Item* sizes;    // (n,)
  float* limits;  // (n,)
  Item keep, capacity;
  float sign;
};

namespace {

inline double squared_distance(const Points& a, Index i, const Points& b, Index j) {
  const float *x = a.grid + i * a.dim, *y = b.grid + j * b.dim;
  double product = 0.0;
#pragma omp simd reduction(+ : product)
  for (Index d = 0; d < a.dim; ++d) product += double(x[d]) * double(y[d]);
  return (a.squares[i] + b.squares[j]) - 2.0 * product;
}

using Judged = std::vector<std::pair<double, Item>>;

// The candidates of point i by exact distance, the smallest first; equals by item.
void judge(const Lists& lists, const Points& points, Index i, const Points& others,
           Judged& judged) {
  const Item* items = lists.items + i * lists.capacity;
  judged.clear();
  for (Item place = 0; place < lists.sizes[i]; ++place) {
    const double distance = squared_distance(points, i, others, items[place]);
    judged.emplace_back(lists.sign * distance, items[place]);
  }
  std::sort(judged.begin(), judged.end());
}

// A full list makes room: by screened values, and where too many of them tie by exact ones.
void tighten(const Lists& lists, const Points& points, Index i, const Points& others) {
  Item* items = lists.items + i * lists.capacity;
  float* values = lists.values + i * lists.capacity;
  const float slack = 2.0f * points.margins[i];
  thread_local std::vector<float> sorted;
  sorted.assign(values, values + lists.sizes[i]);
  std::nth_element(sorted.begin(), sorted.begin() + (lists.keep - 1), sorted.end());
  float limit = std::nextafterf(sorted[lists.keep - 1] + slack, INFINITY);
  Item kept = 0;
  for (Item place = 0; place < lists.sizes[i]; ++place) {
    if (values[place] > limit) continue;
    items[kept] = items[place];
    values[kept++] = values[place];
  }
  lists.sizes[i] = kept;
  if (kept > lists.capacity - lists.capacity / 4) {
    thread_local Judged judged;
    judge(lists, points, i, others, judged);
    lists.sizes[i] = lists.keep;
    for (Item place = 0; place < lists.keep; ++place) {
      items[place] = judged[place].second;
      values[place] = float(judged[place].first * 0.5);
    }
    limit = std::nextafterf(values[lists.keep - 1] + slack, INFINITY);
  }
  lists.limits[i] = std::min(lists.limits[i], limit);
}

inline void offer(const Lists& lists, const Points& points, Index i, const Points& others, Index j,
                  float half) {
  const float value = lists.sign * half;
  if (!(value <= lists.limits[i])) return;
  const Index place = i * lists.capacity + lists.sizes[i]++;
  lists.items[place] = Item(j);
  lists.values[place] = value;
  if (lists.sizes[i] == lists.capacity) tighten(lists, points, i, others);
}

struct Tile {
  const float* products;  // (rows, columns)
  Index first_row, rows, first_column, columns;
};

// Offers every item of a tile to the lists of its rows.
void scan_rows(const Tile& tile, const Points& left, const Points& right, const Lists& near,
               const Lists* far, int threads) {
  const float* halves = right.halves + tile.first_column;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
  for (Index r = 0; r < tile.rows; ++r) {
    const Index i = tile.first_row + r;
    const float* products = tile.products + r * tile.columns;
    const float half = left.halves[i];
    for (Index start = 0; start < tile.columns; start += CHUNK) {
      const Index stop = std::min(start + CHUNK, tile.columns);
      const float nearest = near.limits[i], farthest = far ? -far->limits[i] : INFINITY;
      int hits[CHUNK], any = 0;
#pragma omp simd reduction(| : any)
      for (Index c = start; c < stop; ++c) {
        const float value = (half + halves[c]) - products[c];
        any |= hits[c - start] = int(value <= nearest) | int(value >= farthest);
      }
      if (!any) continue;
      for (Index c = start; c < stop; ++c) {
        const Index j = tile.first_column + c;
        if (!hits[c - start] || (&left == &right && i == j)) continue;
        const float value = (half + halves[c]) - products[c];
        offer(near, left, i, right, j, value);
        if (far) offer(*far, left, i, right, j, value);
      }
    }
  }
}

// Offers every item of a tile to the lists of its columns; each thread has columns of its own.
void scan_columns(const Tile& tile, const Points& points, const Lists& near, const Lists& far,
                  int threads) {
  const Index chunks = (tile.columns + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; ++part) {
    const Index begin = chunks * part / threads * CHUNK;
    const Index end = std::min(chunks * (part + 1) / threads * CHUNK, tile.columns);
    const float* halves = points.halves + tile.first_column;
    const float* nearest = near.limits + tile.first_column;
    const float* farthest = far.limits + tile.first_column;
    for (Index r = 0; r < tile.rows; ++r) {
      const float* products = tile.products + r * tile.columns;
      const float half = points.halves[tile.first_row + r];
      for (Index start = begin; start < end; start += CHUNK) {
        const Index stop = std::min(start + CHUNK, end);
        int hits[CHUNK], any = 0;
#pragma omp simd reduction(| : any)
        for (Index c = start; c < stop; ++c) {
          const float value = (half + halves[c]) - products[c];
          any |= hits[c - start] = int(value <= nearest[c]) | int(-value <= farthest[c]);
        }
        if (!any) continue;
        for (Index c = start; c < stop; ++c) {
          if (!hits[c - start]) continue;
          const float value = (half + halves[c]) - products[c];
          const Index i = tile.first_column + c, j = tile.first_row + r;
          offer(near, points, i, points, j, value);
          offer(far, points, i, points, j, value);
        }
      }
    }
  }
}

inline bool among(const Item* items, Index count, Item wanted) {
  int found = 0;
#pragma omp simd reduction(| : found)
  for (Index place = 0; place < count; ++place) found |= int(items[place] == wanted);
  return found != 0;
}

}  // namespace

extern "C" {

// A tile of a search of `left` among `right`.
void search_tile(const Points* left, const Points* right, const Lists* near, const float* products,
                 Index first_row, Index rows, Index first_column, Index columns, int threads) {
  const Tile tile{products, first_row, rows, first_column, columns};
  scan_rows(tile, *left, *right, *near, nullptr, threads);
}

// A tile of a search of points among themselves, which serves its rows and its columns.
void search_tile_both_ways(const Points* points, const Lists* near, const Lists* far,
                           const float* products, Index first_row, Index rows, Index first_column,
                           Index columns, int threads) {
  const Tile tile{products, first_row, rows, first_column, columns};
  scan_rows(tile, *points, *points, *near, far, threads);
  if (first_row != first_column) scan_columns(tile, *points, *near, *far, threads);
}

// The `keep` first of every list, by exact distance, into (n, keep) tables.
void settle(const Points* points, const Points* others, const Lists* lists, Index n, Item* items,
            double* squared, int threads) {
#pragma omp parallel num_threads(threads)
  {
    Judged judged;
#pragma omp for schedule(dynamic, 64)
    for (Index i = 0; i < n; ++i) {
      judge(*lists, *points, i, *others, judged);
      for (Item place = 0; place < lists->keep; ++place) {
        items[i * lists->keep + place] = judged[place].second;
        squared[i * lists->keep + place] = lists->sign * judged[place].first;
      }
    }
  }
}

void pair_distances(const Points* points, Index pairs, const Item* first, const Item* second,
                    double* squared, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (Index p = 0; p < pairs; ++p)
    squared[p] = squared_distance(*points, first[p], *points, second[p]);
}

// mutual (n, k): whether i is among the first k of its neighbour, too.
void mutual_neighbours(const Item* ranks, Index n, Index width, Index k, bool* mutual,
                       int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (Index i = 0; i < n; ++i)
    for (Index place = 0; place < k; ++place)
      mutual[i * k + place] = among(ranks + ranks[i * width + place] * width, k, Item(i));
}

// R* of every item, ascending: into `members` from `offsets` on, or if that is null, its size into
// `offsets`. The sets R are given by their offsets and members, those of half size, too.
void expand_sets(Index n, const Index* starts, const Item* sets, const Index* half_starts,
                 const Item* half_sets, Index* offsets, Item* members, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<Item> found;
#pragma omp for schedule(dynamic, 256)
    for (Index i = 0; i < n; ++i) {
      const Item* own = sets + starts[i];
      const Index size = starts[i + 1] - starts[i];
      found.assign(own, own + size);
      for (Index place = 0; place < size; ++place) {
        const Item candidate = own[place];
        const Item* theirs = half_sets + half_starts[candidate];
        const Index count = half_starts[candidate + 1] - half_starts[candidate];
        Index common = 0;
        for (Index other = 0; other < count; ++other) common += among(own, size, theirs[other]);
        if (3 * common > 2 * count) found.insert(found.end(), theirs, theirs + count);
      }
      std::sort(found.begin(), found.end());
      found.erase(std::unique(found.begin(), found.end()), found.end());
      if (members)
        std::copy(found.begin(), found.end(), members + offsets[i]);
      else
        offsets[i] = Index(found.size());
    }
  }
}

// Rows of the final distance. `products` (rows, gallery) may be null if lambda is 0; the gallery's
// encodings come as an inverted index: by column the items that have it, and their values.
void final_rows(Index rows, Index gallery, const double* products, const double* row_squares,
                const double* gallery_squares, const double* divisors, double lambda, bool again,
                const Index* starts, const Item* columns, const float* values,
                const Index* inverted_starts, const Item* inverted_items,
                const float* inverted_values, float* distances, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<double> shared(gallery);
#pragma omp for schedule(dynamic, 4)
    for (Index r = 0; r < rows; ++r) {
      std::fill(shared.begin(), shared.end(), 0.0);
      for (Index at = starts[r]; at < starts[r + 1]; ++at) {
        const Index end = inverted_starts[columns[at] + 1];
        for (Index p = inverted_starts[columns[at]]; p < end; ++p)
          shared[inverted_items[p]] += double(std::min(values[at], inverted_values[p]));
      }
      float* out = distances + r * gallery;
      const double square = row_squares[r], divisor = divisors[r];
      const double* product = products ? products + r * gallery : nullptr;
      const double* common = shared.data();
      if (!product) {
#pragma omp simd
        for (Index g = 0; g < gallery; ++g)
          out[g] = float((1.0 - lambda) * (1.0 - common[g] / (2.0 - common[g])));
        continue;
      }
#pragma omp simd
      for (Index g = 0; g < gallery; ++g) {
        const double jaccard = 1.0 - common[g] / (2.0 - common[g]);
        double distance = ((square + gallery_squares[g]) - 2.0 * product[g]) / divisor;
        distance = again ? distance * distance : distance;
        out[g] = float((1.0 - lambda) * jaccard + lambda * distance);
      }
    }
  }
}

}  // extern "C"
