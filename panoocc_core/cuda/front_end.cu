// From the pictures of all cameras, as they were sent, to the input of a network: one launch, one thread for each pixel
// of the input. A pixel is decoded, reduced, undistorted, turned upright, cropped, resized, normalised and padded without
// anything written between.
//
// The arithmetic is that of the host (panoocc_core/preprocess.py and what it calls): what OpenCV does in whole numbers is
// done in the same ones, what torch does in float32 in float32. Compile with -fmad=false, as the host has no other.
// Plain C++ but for the keywords of CUDA, so that a test can run it on a CPU.

enum Encoding { INTERLEAVED, CHROMA_SHARED, BAYER };
enum Resize { CROP, BILINEAR, ANTIALIASED, EIGHT_BITS };
enum Kind { FLOAT32, FLOAT16, BFLOAT16 };

struct Layout {  // of the input of the network; front_end.py has the same record, and of `Camera`
    int height, width;                // padded
    int resized_height, resized_width;
    int kind;                         // of numbers
    int is_bgr;
    float mean[3], deviation[3];      // in the order of the channels
};

struct Camera {
    const unsigned char* data;        // as it was sent
    const short* map_xy;              // [rectified_height, rectified_width, 2]; null: no distortion to undo
    const unsigned short* map_part;   // [rectified_height, rectified_width], 32 * y + x in parts of 32
    double warp[6];                   // EIGHT_BITS: [2, 3], pixels of the reduced upright image from those of the input
    int encoding;
    int height, width, step;          // as it was sent; step: bytes from row to row
    int place[3], pixel_bytes;        // INTERLEAVED: bytes of R, G, B in a pixel; CHROMA_SHARED: where Y, U, V begin
    int chroma_rows, chroma_bytes;    // rows that share chroma, bytes of a shared one; BAYER: row and column of red
    int reduction;                    // times that it is made smaller when it is decoded
    int rectified_height, rectified_width;
    int turns;                        // quarter turns counter-clockwise that bring it upright
    int again;                        // times that the upright image is made smaller
    int top, left, rows, columns;     // the part that is used
    int resize;
};

struct Pixel { int r, g, b; };

__device__ inline int clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

__device__ inline int divided_up(int value, int by) { return (value + by - 1) / by; }

__device__ inline Pixel rgb_of_yuv(int y, int u, int v) {
    // BT.601 with 20 bits, as in OpenCV.
    const int half = 1 << 19;
    y = (y > 16 ? y - 16 : 0) * 1220542;
    u -= 128, v -= 128;
    return {clamp((y + half + 1673527 * v) >> 20, 0, 255),
            clamp((y + half - 852492 * v - 409993 * u) >> 20, 0, 255),
            clamp((y + half + 2116026 * u) >> 20, 0, 255)};
}

__device__ inline Pixel rgb_of_mosaic(const Camera& camera, int y, int x) {
    // Bilinear. The outermost pixels have no neighbours and get the colours of the next ones inside, as in OpenCV.
    y = clamp(y, 1, camera.height - 2), x = clamp(x, 1, camera.width - 2);
    const unsigned char* at = camera.data + (long long)y * camera.step + x;
    const unsigned char *above = at - camera.step, *below = at + camera.step;
    const bool red_row = (y & 1) == camera.chroma_rows, red_column = (x & 1) == camera.chroma_bytes;
    const int beside = (at[-1] + at[1] + 1) >> 1, over = (above[0] + below[0] + 1) >> 1;
    if (red_row != red_column) return red_row ? Pixel{beside, at[0], over} : Pixel{over, at[0], beside};
    const int cross = (at[-1] + at[1] + above[0] + below[0] + 2) >> 2;
    const int corners = (above[-1] + above[1] + below[-1] + below[1] + 2) >> 2;
    return red_row ? Pixel{at[0], cross, corners} : Pixel{corners, cross, at[0]};
}

__device__ inline Pixel decoded(const Camera& camera, int y, int x) {
    if (camera.encoding == BAYER) return rgb_of_mosaic(camera, y, x);
    const unsigned char* row = camera.data + (long long)y * camera.step;
    const unsigned char* at = row + x * camera.pixel_bytes;
    if (camera.encoding == INTERLEAVED) return {at[camera.place[0]], at[camera.place[1]], at[camera.place[2]]};
    const unsigned char* chroma =
        camera.data + (long long)(y / camera.chroma_rows) * camera.step + (x >> 1) * camera.chroma_bytes;
    return rgb_of_yuv(at[camera.place[0]], chroma[camera.place[1]], chroma[camera.place[2]]);
}

// The mean of squares of pixels; what is left over at the right and the bottom is filled up with the last ones.
template <typename Read>
__device__ inline Pixel mean_of_square(int times, int y, int x, int height, int width, Read read) {
    if (times == 1) return read(y, x);
    Pixel sum = {0, 0, 0};
#pragma unroll 1
    for (int place = 0; place < times * times; ++place) {
        const int row = y * times + place / times, column = x * times + place % times;
        const Pixel one = read(row < height ? row : height - 1, column < width ? column : width - 1);
        sum.r += one.r, sum.g += one.g, sum.b += one.b;
    }
    if (times == 2) return {(sum.r + 2) >> 2, (sum.g + 2) >> 2, (sum.b + 2) >> 2};
    const float share = 1.0f / (times * times);
    return {(int)rintf(sum.r * share), (int)rintf(sum.g * share), (int)rintf(sum.b * share)};
}

__device__ inline Pixel taken(const Camera& camera, int y, int x) {
    return mean_of_square(camera.reduction, y, x, camera.height, camera.width,
                          [&](int row, int column) { return decoded(camera, row, column); });
}

__device__ inline Pixel undistorted(const Camera& camera, int y, int x) {
    if (camera.map_xy == nullptr) return taken(camera, y, x);
    const long long place = (long long)y * camera.rectified_width + x;
    const int left = camera.map_xy[2 * place], top = camera.map_xy[2 * place + 1], part = camera.map_part[place];
    const int height = divided_up(camera.height, camera.reduction), width = divided_up(camera.width, camera.reduction);
    Pixel sum = {512, 512, 512};  // half of 32 * 32: what is outside the picture is black
#pragma unroll 1
    for (int corner = 0; corner < 4; ++corner) {
        const int row = top + (corner >> 1), column = left + (corner & 1);
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        const int down = part >> 5 & 31, across = part & 31;
        const int weight = (corner & 2 ? down : 32 - down) * (corner & 1 ? across : 32 - across);
        if (weight == 0) continue;
        const Pixel one = taken(camera, row, column);
        sum.r += weight * one.r, sum.g += weight * one.g, sum.b += weight * one.b;
    }
    return {sum.r >> 10, sum.g >> 10, sum.b >> 10};
}

__device__ inline Pixel upright(const Camera& camera, int y, int x) {
    const int bottom = camera.rectified_height - 1, right = camera.rectified_width - 1;
    const int row = camera.turns == 0 ? y : camera.turns == 1 ? x : camera.turns == 2 ? bottom - y : bottom - x;
    const int column = camera.turns == 0 ? x : camera.turns == 1 ? right - y : camera.turns == 2 ? right - x : y;
    return undistorted(camera, row, column);
}

// The pixels that make one of the input, along one axis: the places first, first + 1, ..., no further than last.
struct Taps {
    int first, count, last;
    float whole, part;                // BILINEAR, EIGHT_BITS: weights whole - part and part; CROP: whole
    float centre, inverse, total;     // ANTIALIASED: of a triangle

    __device__ int place(int number) const { return clamp(first + number, 0, last); }
    __device__ float triangle(int number) const {
        const float away = fabsf((number + first - centre + 0.5f) * inverse);
        return away < 1.0f ? 1.0f - away : 0.0f;
    }
    __device__ float weight(int number) const {
        if (total != 0.0f) return triangle(number) / total;
        return number == 0 ? whole - part : part;
    }
};

__device__ inline Taps cropped(int at) { return {at, 1, at, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f}; }

__device__ inline Taps bilinear(int at, int input, int output) {
    // One rounding, as compilers make of torch's expression on CPUs and on CUDA.
    const float scale = (float)input / output, wanted = fmaf(scale, at + 0.5f, -0.5f);
    const float from = wanted < 0.0f ? 0.0f : wanted;
    const int first = clamp((int)from, 0, input - 1);
    const float part = from - first;
    return {first, 2, input - 1, 1.0f, part > 1.0f ? 1.0f : part, 0.0f, 0.0f, 0.0f};
}

__device__ inline Taps antialiased(int at, int input, int output) {
    const float scale = (float)input / output, reach = scale > 1.0f ? scale : 1.0f, centre = scale * (at + 0.5f);
    const int low = (int)(centre - reach + 0.5f), high = (int)(centre + reach + 0.5f);
    const int first = low < 0 ? 0 : low, behind = high < input ? high : input;
    Taps taps = {first, behind - first, input - 1, 0.0f, 0.0f, centre, 1.0f / reach, 0.0f};
    float total = 0.0f;
    for (int number = 0; number < taps.count; ++number) total += taps.triangle(number);
    taps.total = total;
    return taps;
}

__device__ inline Taps in_parts_of_32(int position, int size) {
    return {position >> 5, 2, size - 1, 32.0f, (float)(position & 31), 0.0f, 0.0f, 0.0f};
}

__device__ inline int whole(double value) { return (int)rint(value); }

__device__ inline void resized(const Camera& camera, const Layout& layout, int y, int x, float rgb[3]) {
    const bool is_sideways = camera.turns & 1;
    const int height = is_sideways ? camera.rectified_width : camera.rectified_height;
    const int width = is_sideways ? camera.rectified_height : camera.rectified_width;
    Taps down, across;
    int top = camera.top, left = camera.left;
    if (camera.resize == CROP) {
        down = cropped(y), across = cropped(x);
    } else if (camera.resize == BILINEAR) {
        down = bilinear(y, camera.rows, layout.resized_height);
        across = bilinear(x, camera.columns, layout.resized_width);
    } else if (camera.resize == ANTIALIASED) {
        down = antialiased(y, camera.rows, layout.resized_height);
        across = antialiased(x, camera.columns, layout.resized_width);
    } else {  // cv2.warpAffine: positions in parts of 32, summed in parts of 1024
        const double* warp = camera.warp;
        const int at_x = whole((warp[1] * y + warp[2]) * 1024) + 16 + whole(warp[0] * x * 1024);
        const int at_y = whole((warp[4] * y + warp[5]) * 1024) + 16 + whole(warp[3] * x * 1024);
        down = in_parts_of_32(at_y >> 5, divided_up(height, camera.again));
        across = in_parts_of_32(at_x >> 5, divided_up(width, camera.again));
        top = left = 0;
    }
    float sum[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll 1
    for (int i = 0; i < down.count; ++i) {
        float row[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll 1
        for (int j = 0; j < across.count; ++j) {
            const Pixel one = mean_of_square(camera.again, top + down.place(i), left + across.place(j), height, width,
                                             [&](int at_y, int at_x) { return upright(camera, at_y, at_x); });
            const float weight = across.weight(j);
            row[0] += weight * one.r, row[1] += weight * one.g, row[2] += weight * one.b;
        }
        const float weight = down.weight(i);
        for (int channel = 0; channel < 3; ++channel) sum[channel] += weight * row[channel];
    }
    for (int channel = 0; channel < 3; ++channel)
        rgb[channel] = camera.resize == EIGHT_BITS ? floorf((sum[channel] + 512.0f) / 1024.0f) : sum[channel];
}

__device__ inline unsigned short half_bits(float value) {
#ifdef __CUDA_ARCH__
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    union { _Float16 number; unsigned short bits; } half = {(_Float16)value};
    return half.bits;
#endif
}

__device__ inline unsigned short bfloat_bits(float value) {
    union { float number; unsigned bits; } whole = {value};
    return (whole.bits + 0x7fff + (whole.bits >> 16 & 1)) >> 16;  // to the nearest, ties to even; finite numbers only
}

// input: [camera, height, width, 3] of the layout's kind of numbers. Blocks: (columns, rows, camera).
extern "C" __global__ void prepare_images(const Layout* layouts, const Camera* cameras, void* input) {
    const Layout& layout = *layouts;
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= layout.width || y >= layout.height) return;
    float rgb[3] = {0.0f, 0.0f, 0.0f};
    const bool is_padding = x >= layout.resized_width || y >= layout.resized_height;
    if (!is_padding) resized(cameras[blockIdx.z], layout, y, x, rgb);
    const long long place = 3 * (((long long)blockIdx.z * layout.height + y) * layout.width + x);
    for (int channel = 0; channel < 3; ++channel) {
        const float colour = layout.is_bgr ? rgb[2 - channel] : rgb[channel];
        const float value = is_padding ? 0.0f : (colour - layout.mean[channel]) / layout.deviation[channel];
        if (layout.kind == FLOAT32) ((float*)input)[place + channel] = value;
        else ((unsigned short*)input)[place + channel] = layout.kind == FLOAT16 ? half_bits(value) : bfloat_bits(value);
    }
}
