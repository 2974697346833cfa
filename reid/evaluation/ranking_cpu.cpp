// Counting among screened values, and exact keys of pairs, for a CPU. The rules are those of
// ranking.py, distances.py and verification.py, which compute the same without this file; here is
// only speed. Compiled without contraction: a fused multiply-add would change the bits of a key.
//
// Plain C interface, no torch headers: it compiles in seconds and is called through ctypes.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

using Index = std::int64_t;

constexpr Index GROUP = 64;        // values that are skipped together if none is near
constexpr Index COMPARE_ALL = 64;  // up to so many positives, comparing beats binary search

// ------------------------------------------------------------------------------------ counting

// The next float above, of any but infinity and NaN; a call of std::nextafter costs too much here.
inline float next_up(float x) {
  if (x == 0.0f) return std::numeric_limits<float>::denorm_min();
  std::int32_t bits;
  std::memcpy(&bits, &x, 4);
  bits += x > 0.0f ? 1 : -1;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline float rounded_up(double x, float) {
  const float y = float(x);
  return double(y) < x ? next_up(y) : y;
}

inline float rounded_down(double x, float) { return -rounded_up(-x, float()); }

inline double rounded_down(double x, double) { return x; }
inline double rounded_up(double x, double) { return x; }

// Whole registers of comparisons need a counter as wide as the value.
template <class T>
using Counter = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

// Positions of doubtful values, in any order; those beyond the capacity are only counted.
class Doubts {
 public:
  Doubts(Index* positions, Index capacity) : positions(positions), capacity(capacity) {}

  void add(Index position) {
    Index place;
#pragma omp atomic capture
    place = total++;
    if (place < capacity) positions[place] = position;
  }

  Index total = 0;

 private:
  Index* positions;
  Index capacity;
};

template <class T>
class Row {
 public:
  Row(Index width, Index columns)
      : lower(width), upper(width), counts(width), near(columns), position(columns),
        doubtful(columns) {}

  // How many of `values` (columns,) are certainly not farther than each of the ascending `keys`
  // (n,); those that may be either, for one key at least, go to `doubts`, as positions that begin
  // at `first`. Without a margin the values are exact.
  void count(const T* values, Index columns, const double* keys, Index n, const double* margin,
             Index* result, Index first, Doubts& doubts) {
    for (Index j = 0; j < n; ++j) {
      lower[j] = rounded_down(margin ? keys[j] - *margin : keys[j], T());
      upper[j] = rounded_up(margin ? keys[j] + *margin : keys[j], T());
    }
    const Index found = gather(values, columns, upper[n - 1]);
    if (n <= COMPARE_ALL) {
      compare(found, n, margin, first, doubts);
    } else {
      search(found, n, margin, first, doubts);
    }
    for (Index j = 0; j < n; ++j) result[j] = counts[j];
  }

 private:
  std::vector<T> lower, upper;
  std::vector<Index> counts;
  std::vector<T> near;                 // the values that are not farther than the last key
  std::vector<std::int32_t> position;  // and where they stood
  std::vector<Counter<T>> doubtful;

  Index gather(const T* values, Index columns, T limit) {
    Index found = 0;
    for (Index start = 0; start < columns; start += GROUP) {
      const Index stop = std::min(start + GROUP, columns);
      Counter<T> any = 0;
      for (Index i = start; i < stop; ++i) any |= Counter<T>(values[i] <= limit);
      if (!any) continue;
      for (Index i = start; i < stop; ++i) {  // without a branch: `found` is often one too far
        near[found] = values[i];
        position[found] = std::int32_t(i);
        found += values[i] <= limit;
      }
    }
    return found;
  }

  void compare(Index found, Index n, bool inexact, Index first, Doubts& doubts) {
    const T* value = near.data();
    bool clear = true;
    for (Index j = 0; j < n; j += 2) {  // two by two: every value is loaded half as often
      const Index k = std::min(j + 1, n - 1);
      const T high = upper[j], low = lower[j], next_high = upper[k], next_low = lower[k];
      Counter<T> nearer = 0, certain = 0, next_nearer = 0, next_certain = 0;
#pragma omp simd reduction(+ : nearer, certain, next_nearer, next_certain)
      for (Index i = 0; i < found; ++i) {
        nearer += value[i] <= high;
        certain += value[i] < low;
        next_nearer += value[i] <= next_high;
        next_certain += value[i] < next_low;
      }
      counts[j] = nearer;
      counts[k] = next_nearer;
      if (!inexact || (nearer == certain && next_nearer == next_certain)) continue;
      if (clear) std::fill_n(doubtful.begin(), found, Counter<T>(0));
      clear = false;
      Counter<T>* flag = doubtful.data();
#pragma omp simd
      for (Index i = 0; i < found; ++i) {
        flag[i] |= (Counter<T>(value[i] <= high) & Counter<T>(value[i] >= low)) |
                   (Counter<T>(value[i] <= next_high) & Counter<T>(value[i] >= next_low));
      }
    }
    if (clear) return;
    for (Index i = 0; i < found; ++i) {
      if (!doubtful[i]) continue;
      for (Index j = n; j-- > 0 && value[i] <= upper[j];) --counts[j];
      doubts.add(first + position[i]);
    }
  }

  void search(Index found, Index n, bool inexact, Index first, Doubts& doubts) {
    std::fill_n(counts.begin(), n, Index(0));
    for (Index i = 0; i < found; ++i) {
      const T value = near[i];
      const T* base = upper.data();  // ends at the first bound that is not below the value
      for (Index length = n; length > 1;) {
        const Index half = length / 2;
        base += (base[half - 1] < value) * half;
        length -= half;
      }
      const Index place = base - upper.data();
      if (inexact && lower[place] <= value) {
        doubts.add(first + position[i]);
      } else {
        ++counts[place];
      }
    }
    for (Index j = 1; j < n; ++j) counts[j] += counts[j - 1];
  }
};

template <class T>
void count_rows(const T* values, Index rows, Index columns, const double* table, Index width,
                const Index* number, const double* margin, Index* counts, Doubts& doubts,
                int threads) {
#pragma omp parallel num_threads(threads)
  {
    Row<T> row(width, columns + 1);
#pragma omp for schedule(dynamic, 16)
    for (Index b = 0; b < rows; ++b) {
      if (number[b] == 0) continue;
      row.count(values + b * columns, columns, table + b * width, number[b],
                margin ? margin + b : nullptr, counts + b * width, b * columns, doubts);
    }
  }
}

// ------------------------------------------------------------------------------------ screens

// features (rows, dim) times their scale, less the center, as floats; and the products with the
// center and the squared lengths of what was rounded.
template <class T>
void center_rows(const T* features, const double* scale, const double* center, Index rows,
                 Index dim, float* single, double* products, double* squares, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (Index b = 0; b < rows; ++b) {
    const T* x = features + b * dim;
    float* y = single + b * dim;
    const double s = scale[b];
    double product = 0.0, square = 0.0;
#pragma omp simd reduction(+ : product, square)
    for (Index d = 0; d < dim; ++d) {
      const double value = double(x[d]) * s - center[d];
      y[d] = float(value);
      product += value * center[d];
      square += value * value;
    }
    products[b] = product;
    squares[b] = square;
  }
}

// ------------------------------------------------------------------------------------ exact keys

// The sum of terms (n,) by halving, the order that distances.py prescribes.
inline double tree_sum(double* terms, Index n) {
  while (n > 1) {
    const Index half = (n + 1) / 2;
    for (Index i = 0; i < n - half; ++i) terms[i] += terms[half + i];
    n = half;
  }
  return terms[0];
}

template <class T>
double pair_sum(const T* x, const T* y, Index dim, bool squared, double* term) {
  if (squared) {
    for (Index d = 0; d < dim; ++d) {
      const double difference = double(x[d]) - double(y[d]);
      term[d] = difference * difference;
    }
  } else {
    for (Index d = 0; d < dim; ++d) term[d] = double(x[d]) * double(y[d]);
  }
  return tree_sum(term, dim);
}

template <class T>
void pair_sums(const T* query, const T* gallery, Index dim, const Index* rows,
               const Index* columns, Index pairs, bool squared, double* sums, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<double> terms(dim);
#pragma omp for schedule(static)
    for (Index p = 0; p < pairs; ++p) {
      sums[p] = pair_sum(query + rows[p] * dim, gallery + columns[p] * dim, dim, squared,
                         terms.data());
    }
  }
}

// ------------------------------------------------------------------------------------ histogram

// Counts values in [-1, 1], as multiples of 1 / grid, in tables (threads, 2 grid + 1), one a thread;
// infinity is left out. Values within `margin` (in steps) of the middle between two multiples go to
// `doubts`.
void tabulate(const double* values, Index size, Index grid, double margin, Index* tables,
              Doubts& doubts, int threads) {
  const double scale = double(grid), half = 0.5 - margin;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (Index thread = 0; thread < threads; ++thread) {
    Index* table = tables + thread * (2 * grid + 1) + grid;
    const Index stop = size * (thread + 1) / threads;
    for (Index i = size * thread / threads; i < stop; ++i) {
      if (values[i] > 2.0) continue;
      const double scaled = std::min(std::max(values[i] * scale, -scale), scale);
      const double unit = std::nearbyint(scaled);
      if (std::abs(scaled - unit) > half) {
        doubts.add(i);
      } else {
        ++table[Index(unit)];
      }
    }
  }
}

}  // namespace

extern "C" {

// See above; returns the number of doubtful values, of which `capacity` are named.
Index ranking_tabulate(const double* values, Index size, Index grid, double margin, Index* tables,
                       Index* positions, Index capacity, int threads) {
  Doubts doubts(positions, capacity);
  tabulate(values, size, grid, margin, tables, doubts, threads);
  return doubts.total;
}

// values (rows, columns) float or double; table (rows, width), of which number[b] count in row b;
// margin (rows,) or null. Writes counts (rows, width) where they count, and to `doubts` up to
// `capacity` positions, in the flattened values, of doubtful ones; returns how many there are.
Index ranking_count(bool wide, const void* values, Index rows, Index columns, const double* table,
                    Index width, const Index* number, const double* margin, Index* counts,
                    Index* positions, Index capacity, int threads) {
  Doubts doubts(positions, capacity);
  if (wide) {
    count_rows(static_cast<const double*>(values), rows, columns, table, width, number, margin,
               counts, doubts, threads);
  } else {
    count_rows(static_cast<const float*>(values), rows, columns, table, width, number, margin,
               counts, doubts, threads);
  }
  return doubts.total;
}

// See above.
void ranking_center(bool wide, const void* features, const double* scale, const double* center,
                    Index rows, Index dim, float* single, double* products, double* squares,
                    int threads) {
  if (wide) {
    center_rows(static_cast<const double*>(features), scale, center, rows, dim, single, products,
                squares, threads);
  } else {
    center_rows(static_cast<const float*>(features), scale, center, rows, dim, single, products,
                squares, threads);
  }
}

// Sums over the dimensions of products, or of squared differences, of pairs of rows.
void ranking_pair_sums(bool wide, const void* query, const void* gallery, Index dim,
                       const Index* rows, const Index* columns, Index pairs, bool squared,
                       double* sums, int threads) {
  if (wide) {
    pair_sums(static_cast<const double*>(query), static_cast<const double*>(gallery), dim, rows,
              columns, pairs, squared, sums, threads);
  } else {
    pair_sums(static_cast<const float*>(query), static_cast<const float*>(gallery), dim, rows,
              columns, pairs, squared, sums, threads);
  }
}

}  // extern "C"
