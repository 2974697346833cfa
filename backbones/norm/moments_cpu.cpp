// The four passes of the numeric core (moments.py) for a CPU: float and bfloat16 tensors, either as
// planes (NCHW: S contiguous values per plane) or as rows (NHWC: C contiguous values per position).
// Memory bandwidth is the limit, so each pass reads every value once.
//
// Plain C interface, no torch headers: it compiles in seconds and is called through ctypes.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Index = std::int64_t;
constexpr Index BLOCK = 4096;  // values of a block: 16 KiB of floats, half an L1 cache

struct bfloat16 {
  std::uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bfloat16 value) {
  const std::uint32_t wide = std::uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, 4);
  return result;
}

inline void store(float& target, float value) { target = value; }

inline void store(bfloat16& target, float value) {
  std::uint32_t wide;
  std::memcpy(&wide, &value, 4);
  const std::uint32_t rounded = (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16;  // half to even
  target.bits = std::uint16_t(value != value ? 0x7fc0u : rounded);
}

// Comparisons are written so that a NaN stays a NaN, as torch's ReLU leaves it.
inline float rectified(float value) { return value < 0.0f ? 0.0f : value; }

struct Size {
  Index samples, channels, positions;
  int threads;
};

// ------------------------------------------------------------------------------------ planes

// Sums about a shift that the values themselves give, the mean of the first m of n. Whatever they
// are, (shift - mean)^2 <= n / m * variance, so the subtraction at the end loses at most a factor
// of n / m in precision, and one look at each value is enough.
struct Shifted {
  double mean = 0.0, squares = 0.0;  // squares: sum of squared deviations from the mean

  // Chan's update by a block of `count` values after `before` others.
  void add(double before, double count, double shift, double sum, double sum_squares) {
    const double block_mean = shift + sum / count;
    const double block_squares = sum_squares - sum * sum / count;
    const double delta = block_mean - mean;
    mean += delta * count / (before + count);
    squares += block_squares + delta * delta * before * count / (before + count);
  }

  float variance(double count) const { return float(squares < 0.0 ? 0.0 : squares / count); }
};

template <class T>
void plane_moments(const T* x, float* mean, float* var, const Size& size) {
  const Index planes = size.samples * size.channels, positions = size.positions;
  // What is lost grows with the block (see Shifted), and matters to 32 bits only.
  constexpr Index LENGTH = sizeof(T) == 4 ? BLOCK / 4 : BLOCK;
#pragma omp parallel for num_threads(size.threads) schedule(static)
  for (Index plane = 0; plane < planes; ++plane) {
    Shifted total;
    for (Index start = 0; start < positions; start += LENGTH) {
      const T* row = x + plane * positions + start;
      const Index count = std::min(LENGTH, positions - start), first = std::min<Index>(count, 64);
      float shift = 0.0f, sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : shift)
      for (Index j = 0; j < first; ++j) shift += load(row[j]);
      shift /= float(first);
#pragma omp simd reduction(+ : sum, squares)
      for (Index j = 0; j < count; ++j) {
        const float centred = load(row[j]) - shift;
        sum += centred;
        squares += centred * centred;
      }
      total.add(double(start), double(count), shift, sum, squares);
    }
    mean[plane] = float(total.mean);
    var[plane] = total.variance(double(positions));
  }
}

template <class T, bool RELU, bool RESIDUAL>
void plane_affine(const T* x, const float* mean, const float* scale, const float* offset,
                  const T* residual, T* y, const Size& size) {
  const Index planes = size.samples * size.channels, positions = size.positions;
#pragma omp parallel for num_threads(size.threads) schedule(static)
  for (Index plane = 0; plane < planes; ++plane) {
    const T* row = x + plane * positions;
    const T* other = RESIDUAL ? residual + plane * positions : nullptr;
    T* out = y + plane * positions;
    const float m = mean[plane], s = scale[plane], t = offset[plane];
#pragma omp simd
    for (Index j = 0; j < positions; ++j) {
      float value = (load(row[j]) - m) * s + t;
      if (RESIDUAL) value += load(other[j]);
      store(out[j], RELU ? rectified(value) : value);
    }
  }
}

template <class T, bool RELU>
void plane_sums(const T* gy, const T* x, const float* mean, const float* scale,
                const float* offset, float* g_scale, float* g_offset, const Size& size) {
  const Index planes = size.samples * size.channels, positions = size.positions;
#pragma omp parallel for num_threads(size.threads) schedule(static)
  for (Index plane = 0; plane < planes; ++plane) {
    const T* row = x + plane * positions;
    const T* grad = gy + plane * positions;
    const float m = mean[plane], s = scale[plane], t = offset[plane];
    double total_scale = 0.0, total_offset = 0.0;
    for (Index start = 0; start < positions; start += BLOCK) {
      const Index count = std::min(BLOCK, positions - start);
      float a = 0.0f, b = 0.0f;
#pragma omp simd reduction(+ : a, b)
      for (Index j = 0; j < count; ++j) {
        const float centred = load(row[start + j]) - m;
        float g = load(grad[start + j]);
        if (RELU) g = centred * s + t > 0.0f ? g : 0.0f;
        a += g * centred;
        b += g;
      }
      total_scale += a;
      total_offset += b;
    }
    g_scale[plane] = float(total_scale);
    g_offset[plane] = float(total_offset);
  }
}

template <class T, bool RELU>
void plane_gradient(const T* gy, const T* x, const float* mean, const float* scale,
                    const float* offset, const float* p, const float* q, T* gx,
                    const Size& size) {
  const Index planes = size.samples * size.channels, positions = size.positions;
#pragma omp parallel for num_threads(size.threads) schedule(static)
  for (Index plane = 0; plane < planes; ++plane) {
    const T* row = x + plane * positions;
    const T* grad = gy + plane * positions;
    T* out = gx + plane * positions;
    const float m = mean[plane], s = scale[plane], t = offset[plane];
    const float u = p[plane], v = q[plane];
#pragma omp simd
    for (Index j = 0; j < positions; ++j) {
      const float centred = load(row[j]) - m;
      float g = load(grad[j]);
      if (RELU) g = centred * s + t > 0.0f ? g : 0.0f;
      store(out[j], s * g + u * centred + v);
    }
  }
}

// -------------------------------------------------------------------------------------- rows

// A task is one sample and a range of its channels: its sums need no other thread.
struct Tasks {
  Index width, per_sample, count;

  explicit Tasks(const Size& size) {
    const Index wanted = std::max<Index>(1, (4 * size.threads + size.samples - 1) /
                                                std::max<Index>(size.samples, 1));
    const Index cells = (size.channels + 31) / 32;  // two cache lines of floats
    width = 32 * ((cells + wanted - 1) / wanted);
    per_sample = (size.channels + width - 1) / width;
    count = size.samples * per_sample;
  }
};

// Sums of `count` rows about a shift, for WIDTH channels. The constant width lets the compiler hold
// all of them in registers while the rows pass.
template <Index WIDTH, class T>
void add_rows(const T* rows, Index stride, Index count, const float* shift, float* sum,
              float* square) {
  float k[WIDTH], a[WIDTH] = {}, b[WIDTH] = {};
  std::copy(shift, shift + WIDTH, k);
  for (Index r = 0; r < count; ++r) {
    const T* row = rows + r * stride;
#pragma omp simd
    for (Index c = 0; c < WIDTH; ++c) {
      const float centred = load(row[c]) - k[c];
      a[c] += centred;
      b[c] += centred * centred;
    }
  }
  std::copy(a, a + WIDTH, sum);
  std::copy(b, b + WIDTH, square);
}

template <class T>
void row_moments(const T* x, float* mean, float* var, const Size& size) {
  constexpr Index ROWS = 128, FIRST = 4;
  const Tasks tasks(size);
  const Index C = size.channels, positions = size.positions;
#pragma omp parallel num_threads(size.threads)
  {
    std::vector<Shifted> totals(tasks.width);
    std::vector<float> shifts(tasks.width), sums(tasks.width), squares(tasks.width);
#pragma omp for schedule(static)
    for (Index task = 0; task < tasks.count; ++task) {
      const Index n = task / tasks.per_sample;
      const Index channel = (task % tasks.per_sample) * tasks.width;
      const Index width = std::min(tasks.width, C - channel);
      const T* base = x + n * positions * C + channel;
      float *shift = shifts.data(), *sum = sums.data(), *square = squares.data();
      std::fill(totals.begin(), totals.end(), Shifted());
      for (Index start = 0; start < positions; start += ROWS) {
        const Index count = std::min(ROWS, positions - start), first = std::min(count, FIRST);
        std::fill(shifts.begin(), shifts.end(), 0.0f);
        for (Index r = 0; r < first; ++r) {
          const T* row = base + (start + r) * C;
#pragma omp simd
          for (Index c = 0; c < width; ++c) shift[c] += load(row[c]) / float(first);
        }
        const T* block = base + start * C;
        Index c = 0;
        for (; c + 32 <= width; c += 32)
          add_rows<32>(block + c, C, count, shift + c, sum + c, square + c);
        for (; c < width; ++c)
          add_rows<1>(block + c, C, count, shift + c, sum + c, square + c);
        for (c = 0; c < width; ++c)
          totals[c].add(double(start), double(count), shift[c], sum[c], square[c]);
      }
      for (Index c = 0; c < width; ++c) {
        mean[n * C + channel + c] = float(totals[c].mean);
        var[n * C + channel + c] = totals[c].variance(double(positions));
      }
    }
  }
}

template <class T, bool RELU, bool RESIDUAL>
void row_affine(const T* x, const float* mean, const float* scale, const float* offset,
                const T* residual, T* y, const Size& size) {
  const Index C = size.channels, rows = size.samples * size.positions;
#pragma omp parallel for num_threads(size.threads) schedule(static)
  for (Index r = 0; r < rows; ++r) {
    const Index n = r / size.positions;
    const T* row = x + r * C;
    const T* other = RESIDUAL ? residual + r * C : nullptr;
    T* out = y + r * C;
    const float *m = mean + n * C, *s = scale + n * C, *t = offset + n * C;
#pragma omp simd
    for (Index c = 0; c < C; ++c) {
      float value = (load(row[c]) - m[c]) * s[c] + t[c];
      if (RESIDUAL) value += load(other[c]);
      store(out[c], RELU ? rectified(value) : value);
    }
  }
}

template <class T, bool RELU>
void row_sums(const T* gy, const T* x, const float* mean, const float* scale, const float* offset,
              float* g_scale, float* g_offset, const Size& size) {
  const Tasks tasks(size);
  const Index C = size.channels, positions = size.positions;
#pragma omp parallel num_threads(size.threads)
  {
    std::vector<double> total_scale(tasks.width), total_offset(tasks.width);
    std::vector<float> part_scale(tasks.width), part_offset(tasks.width);
#pragma omp for schedule(static)
    for (Index task = 0; task < tasks.count; ++task) {
      const Index n = task / tasks.per_sample;
      const Index first = (task % tasks.per_sample) * tasks.width;
      const Index width = std::min(tasks.width, C - first);
      const Index begin = n * positions * C + first;
      const float *m = mean + n * C + first, *s = scale + n * C + first;
      const float* t = offset + n * C + first;
      float *a = part_scale.data(), *b = part_offset.data();
      std::fill(total_scale.begin(), total_scale.end(), 0.0);
      std::fill(total_offset.begin(), total_offset.end(), 0.0);
      for (Index start = 0; start < positions; start += 128) {
        const Index count = std::min<Index>(128, positions - start);
        std::fill(part_scale.begin(), part_scale.end(), 0.0f);
        std::fill(part_offset.begin(), part_offset.end(), 0.0f);
        for (Index r = 0; r < count; ++r) {
          const T* row = x + begin + (start + r) * C;
          const T* grad = gy + begin + (start + r) * C;
#pragma omp simd
          for (Index c = 0; c < width; ++c) {
            const float centred = load(row[c]) - m[c];
            float g = load(grad[c]);
            if (RELU) g = centred * s[c] + t[c] > 0.0f ? g : 0.0f;
            a[c] += g * centred;
            b[c] += g;
          }
        }
        for (Index c = 0; c < width; ++c) {
          total_scale[c] += a[c];
          total_offset[c] += b[c];
        }
      }
      for (Index c = 0; c < width; ++c) {
        g_scale[n * C + first + c] = float(total_scale[c]);
        g_offset[n * C + first + c] = float(total_offset[c]);
      }
    }
  }
}

template <class T, bool RELU>
void row_gradient(const T* gy, const T* x, const float* mean, const float* scale,
                  const float* offset, const float* p, const float* q, T* gx, const Size& size) {
  const Index C = size.channels, rows = size.samples * size.positions;
#pragma omp parallel for num_threads(size.threads) schedule(static)
  for (Index r = 0; r < rows; ++r) {
    const Index n = r / size.positions;
    const T* row = x + r * C;
    const T* grad = gy + r * C;
    T* out = gx + r * C;
    const float *m = mean + n * C, *s = scale + n * C, *t = offset + n * C;
    const float *u = p + n * C, *v = q + n * C;
#pragma omp simd
    for (Index c = 0; c < C; ++c) {
      const float centred = load(row[c]) - m[c];
      float g = load(grad[c]);
      if (RELU) g = centred * s[c] + t[c] > 0.0f ? g : 0.0f;
      store(out[c], s[c] * g + u[c] * centred + v[c]);
    }
  }
}

// ---------------------------------------------------------------------------------- dispatch

template <class T>
void moments(bool rows, const void* x, float* mean, float* var, const Size& size) {
  (rows ? row_moments<T> : plane_moments<T>)(static_cast<const T*>(x), mean, var, size);
}

template <class T, bool RELU>
void affine(bool rows, const void* x, const float* mean, const float* scale, const float* offset,
            const void* residual, void* y, const Size& size) {
  auto pass = residual ? (rows ? row_affine<T, RELU, true> : plane_affine<T, RELU, true>)
                       : (rows ? row_affine<T, RELU, false> : plane_affine<T, RELU, false>);
  pass(static_cast<const T*>(x), mean, scale, offset, static_cast<const T*>(residual),
       static_cast<T*>(y), size);
}

template <class T, bool RELU>
void sums(bool rows, const void* gy, const void* x, const float* mean, const float* scale,
          const float* offset, float* g_scale, float* g_offset, const Size& size) {
  (rows ? row_sums<T, RELU> : plane_sums<T, RELU>)(static_cast<const T*>(gy),
                                                   static_cast<const T*>(x), mean, scale, offset,
                                                   g_scale, g_offset, size);
}

template <class T, bool RELU>
void gradient(bool rows, const void* gy, const void* x, const float* mean, const float* scale,
              const float* offset, const float* p, const float* q, void* gx, const Size& size) {
  (rows ? row_gradient<T, RELU> : plane_gradient<T, RELU>)(
      static_cast<const T*>(gy), static_cast<const T*>(x), mean, scale, offset, p, q,
      static_cast<T*>(gx), size);
}

}  // namespace

extern "C" {

void norm_moments(bool is_bfloat16, bool rows, Index n, Index c, Index s, int threads,
                  const void* x, float* mean, float* var) {
  const Size size{n, c, s, threads};
  (is_bfloat16 ? moments<bfloat16> : moments<float>)(rows, x, mean, var, size);
}

void norm_affine(bool is_bfloat16, bool rows, Index n, Index c, Index s, int threads, bool relu,
                 const void* x, const float* mean, const float* scale, const float* offset,
                 const void* residual, void* y) {
  const Size size{n, c, s, threads};
  auto pass = relu ? (is_bfloat16 ? affine<bfloat16, true> : affine<float, true>)
                   : (is_bfloat16 ? affine<bfloat16, false> : affine<float, false>);
  pass(rows, x, mean, scale, offset, residual, y, size);
}

void norm_sums(bool is_bfloat16, bool rows, Index n, Index c, Index s, int threads, bool relu,
               const void* gy, const void* x, const float* mean, const float* scale,
               const float* offset, float* g_scale, float* g_offset) {
  const Size size{n, c, s, threads};
  auto pass = relu ? (is_bfloat16 ? sums<bfloat16, true> : sums<float, true>)
                   : (is_bfloat16 ? sums<bfloat16, false> : sums<float, false>);
  pass(rows, gy, x, mean, scale, offset, g_scale, g_offset, size);
}

void norm_gradient(bool is_bfloat16, bool rows, Index n, Index c, Index s, int threads, bool relu,
                   const void* gy, const void* x, const float* mean, const float* scale,
                   const float* offset, const float* p, const float* q, void* gx) {
  const Size size{n, c, s, threads};
  auto pass = relu ? (is_bfloat16 ? gradient<bfloat16, true> : gradient<float, true>)
                   : (is_bfloat16 ? gradient<bfloat16, false> : gradient<float, false>);
  pass(rows, gy, x, mean, scale, offset, p, q, gx, size);
}

}  // extern "C"
