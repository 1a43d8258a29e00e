/* Operators of `panoocc_core.ops` for CPUs; `native_library.py` loads them.

   One pass over a query: where its samples lie and what they weigh goes into arrays that the first cache holds, then rows
   of the table are added up in registers.  Loops are such that compilers make vectors of them.  On x86-64 GCC compiles
   every operator for three generations of processors, of which the loader takes the newest that the machine knows;
   -D ONE_PROCESSOR leaves that to the compiler's other flags. */

#include <stdint.h>
#include <string.h>

#define ABI 1             /* raised with every change of an operator's arguments; `native_library.py` compares it */
#define MOST_SAMPLES 1024 /* of a query: 24 kB on the stack */
#define AHEAD 8           /* how many samples before it is added a row is fetched */

#if defined(ONE_PROCESSOR) || !defined(__x86_64__) || !defined(__GNUC__) || defined(__clang__)
#define OPERATOR
#elif __GNUC__ >= 12
#define OPERATOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OPERATOR __attribute__((target_clones("avx512f", "fma", "default")))
#endif
#define INLINE static inline __attribute__((always_inline))

int panoocc_abi(void) { return ABI; }

int panoocc_most_samples(void) { return MOST_SAMPLES; }

/* Of float32 or bfloat16, which is the upper half of a float32. */
typedef struct {
    const char *at;
    int is_bfloat16;
} Table;

INLINE float value(Table table, int64_t i) {
    if (!table.is_bfloat16) return ((const float *)table.at)[i];
    const union {
        uint32_t bits;
        float number;
    } widened = {(uint32_t)((const uint16_t *)table.at)[i] << 16};
    return widened.number;
}

INLINE void fetch(Table table, int64_t first, int count) {
    const int bytes = table.is_bfloat16 ? 2 : 4;
    for (int i = 0; i < count * bytes; i += 64) __builtin_prefetch(table.at + first * bytes + i);
}

/* Where the samples of one query lie in one source, and what they weigh. */
typedef struct {
    int32_t upper[MOST_SAMPLES], lower[MOST_SAMPLES]; /* rows of the table: the left ones of the four cells */
    float upper_left[MOST_SAMPLES], upper_right[MOST_SAMPLES], lower_left[MOST_SAMPLES], lower_right[MOST_SAMPLES];
} Samples;

/* The lower of two cells between which a position lies, 0 (the border) to `size`, and how far it is from there to the
   other: `lower_and_fraction` of interpolation.py.  Of a NaN 0 and NaN. */
INLINE int32_t cell_and_fraction(float position, float size, float *fraction) {
    const float inside = position < 0 ? 0 : position > size + 1 ? size + 1 : position;
    const float lower = inside > size ? size : inside;
    const int32_t cell = lower >= 0 ? (int32_t)lower : 0;
    *fraction = inside - (float)cell;
    return cell;
}

INLINE void place(Samples *samples, int i, float x, float y, float width, float height, float weight, int32_t first,
                  int32_t below, int32_t beside) {
    float right, down;
    const int32_t column = cell_and_fraction(x, width, &right), row = cell_and_fraction(y, height, &down);
    const float lower = weight * down, upper = weight - lower;
    samples->upper[i] = first + row * below + column * beside;
    samples->lower[i] = samples->upper[i] + below;
    samples->upper_right[i] = upper * right;
    samples->lower_right[i] = lower * right;
    samples->upper_left[i] = upper - samples->upper_right[i];
    samples->lower_left[i] = lower - samples->lower_right[i];
}

/* Adds `count` channels, a constant of at most 32, of the samples from `begin` to `end` of `all`. */
INLINE void add(float *out, Table table, const Samples *samples, int begin, int end, int all, int64_t row_size,
                int64_t beside, int64_t channel, const int count) {
    float sum[32];
    for (int k = 0; k < count; k++) sum[k] = out[k];
    for (int i = begin; i < end; i++) {
        if (i + AHEAD < all) {
            const int64_t upper = samples->upper[i + AHEAD] * row_size + channel;
            const int64_t lower = samples->lower[i + AHEAD] * row_size + channel;
            fetch(table, upper, count);
            fetch(table, upper + beside, count);
            fetch(table, lower, count);
            fetch(table, lower + beside, count);
        }
        const int64_t upper = samples->upper[i] * row_size + channel, lower = samples->lower[i] * row_size + channel;
        const float upper_left = samples->upper_left[i], upper_right = samples->upper_right[i];
        const float lower_left = samples->lower_left[i], lower_right = samples->lower_right[i];
        for (int k = 0; k < count; k++)
            sum[k] += upper_left * value(table, upper + k) + upper_right * value(table, upper + beside + k) +
                      lower_left * value(table, lower + k) + lower_right * value(table, lower + beside + k);
    }
    for (int k = 0; k < count; k++) out[k] = sum[k];
}

/* The same for any number of channels that 8 divides. */
INLINE void add_all(float *out, Table table, const Samples *samples, int begin, int end, int all, int64_t row_size,
                    int64_t beside) {
    int64_t k = 0;
    for (; k + 32 <= row_size; k += 32) add(out + k, table, samples, begin, end, all, row_size, beside, k, 32);
    for (; k + 16 <= row_size; k += 16) add(out + k, table, samples, begin, end, all, row_size, beside, k, 16);
    for (; k + 8 <= row_size; k += 8) add(out + k, table, samples, begin, end, all, row_size, beside, k, 8);
}

/* Multi-scale deformable attention of the queries from `begin` to `end`: see `panoocc_core.ops.deform_attn`. */
OPERATOR void panoocc_deform_attn(
    const char *values, int is_bfloat16, int32_t rows_of_source, /* [source, cell, head, channel] */
    int levels, const int32_t *shapes,                          /* [level, (rows, columns)] */
    int heads, int points, int64_t channels, int slots,
    const float *positions,           /* [query, slot, (x, y)] */
    const int32_t *source,            /* [query, slot], or null */
    const float *x, const float *y,   /* [query, head, level, point], `stride` from query to query */
    int64_t stride, const float *weights, /* [query, head, level, point] */
    float *out,                       /* [query, head, channel] */
    int64_t begin, int64_t end)
{
    Samples samples;
    const int of_head = levels * points, all = heads * of_head;
    for (int64_t query = begin; query < end; query++) {
        memset(out + query * heads * channels, 0, heads * channels * sizeof(float));
        int seen = 0;
        for (int slot = 0; slot < slots; slot++) seen += !source || source[query * slots + slot] >= 0;
        const float share = 1.0f / seen;
        for (int slot = 0; slot < slots; slot++) {
            const int64_t pair = query * slots + slot;
            if (source && source[pair] < 0) continue;
            for (int head = 0; head < heads; head++) {
                int32_t first = head + (source ? source[pair] * rows_of_source : 0);
                for (int level = 0; level < levels; level++) {
                    const int32_t rows = shapes[2 * level], columns = shapes[2 * level + 1];
                    const int32_t below = (columns + 2) * heads;
                    const float middle_x = positions[2 * pair] * columns + 0.5f;
                    const float middle_y = positions[2 * pair + 1] * rows + 0.5f;
                    const int start = head * of_head + level * points;
                    const float *dx = x + query * stride, *dy = y + query * stride, *weight = weights + query * all;
                    for (int i = start; i < start + points; i++)
                        place(&samples, i, middle_x + dx[i], middle_y + dy[i], columns, rows, weight[i] * share, first,
                              below, heads);
                    first += (rows + 2) * below;
                }
            }
            for (int head = 0; head < heads; head++) {
                float *sums = out + (query * heads + head) * channels;
                const int at = head * of_head;
                const Table floats = {values, 0}, bfloats = {values, 1};
                if (is_bfloat16) add_all(sums, bfloats, &samples, at, at + of_head, all, channels, heads * channels);
                else add_all(sums, floats, &samples, at, at + of_head, all, channels, heads * channels);
            }
        }
    }
}
