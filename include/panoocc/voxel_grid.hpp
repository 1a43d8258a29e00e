// panoocc/VoxelGrid and panoocc/LabelSet, checked and unpacked: from messages of rclcpp, from any structure with the same
// fields, or from the bytes that a bag holds.  C++17 and its standard library alone; no ROS.
//
//   panoocc::LabelSet labels = panoocc::LabelSet::from_message(label_set_message);
//   panoocc::VoxelGrid grid = panoocc::VoxelGrid::from_message(voxel_grid_message, labels);
//
// What is damaged, foreign or contradicts itself throws panoocc::FormatError, whose text names the field, before memory is
// taken for more than the message holds.  Limits are those of panoocc_ros/messages/voxel_grid.py.

#ifndef PANOOCC_VOXEL_GRID_HPP_
#define PANOOCC_VOXEL_GRID_HPP_

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace panoocc {

using Vector = std::array<double, 3>;
using Rotation = std::array<Vector, 3>;  // rows
using Quaternion = std::array<double, 4>;  // x, y, z, w
using ClassSet = std::bitset<256>;  // of class ids

// A message that is damaged, foreign or contradicts itself.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr double max_distance_m = 1e8;

namespace detail {

constexpr std::uint64_t max_grid_voxels = 64'000'000;
constexpr double max_voxel_m = 100.0;
constexpr std::size_t max_name = 200;  // bytes of UTF-8 of a class's or a label set's name
constexpr std::uint8_t no_free_id = 255;
constexpr std::uint8_t dense = 0, sparse = 1, instances_none = 0, instances_truth = 3;

// A product that is never fused with a sum: processors that fuse would else round differently from the Python reader.
inline double times(double a, double b) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_assoc_barrier)
  return __builtin_assoc_barrier(a * b);
#endif
#endif
#if defined(__FP_FAST_FMA) || defined(__FMA__) || defined(__aarch64__)
  volatile double product = a * b;
  return product;
#else
  return a * b;
#endif
}

inline double dot(const Vector& a, const Vector& b) {
  return times(a[0], b[0]) + times(a[1], b[1]) + times(a[2], b[2]);
}

inline Vector column(const Rotation& rotation, std::size_t i) { return {rotation[0][i], rotation[1][i], rotation[2][i]}; }

[[noreturn]] inline void refuse(const std::string& what) { throw FormatError(what); }

inline std::string text(double value) { return std::to_string(value); }

// The rotation of a quaternion of any length; nothing where it has no direction.
inline std::optional<Rotation> rotation_rows(const Quaternion& q) {
  const double norm = std::sqrt(times(q[0], q[0]) + times(q[1], q[1]) + times(q[2], q[2]) + times(q[3], q[3]));
  if (!std::isfinite(norm) || norm < 1e-9) return std::nullopt;
  const double x = q[0] / norm, y = q[1] / norm, z = q[2] / norm, w = q[3] / norm;
  const double xx = times(x, x), yy = times(y, y), zz = times(z, z);
  const double xy = times(x, y), xz = times(x, z), yz = times(y, z);
  const double xw = times(x, w), yw = times(y, w), zw = times(z, w);
  return Rotation{{{1 - 2 * (yy + zz), 2 * (xy - zw), 2 * (xz + yw)},
                   {2 * (xy + zw), 1 - 2 * (xx + zz), 2 * (yz - xw)},
                   {2 * (xz - yw), 2 * (yz + xw), 1 - 2 * (xx + yy)}}};
}

// Numbers in the bytes of a message, which need not be aligned.
template <typename Number>
class Numbers {
 public:
  Numbers() = default;
  Numbers(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::size_t size() const { return size_; }
  Number operator[](std::size_t i) const {
    Number value = 0;
    for (std::size_t k = 0; k < sizeof(Number); ++k)
      value = static_cast<Number>(value | static_cast<Number>(data_[i * sizeof(Number) + k]) << (8 * k));
    return value;
  }

 private:
  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

// Reads plain CDR (XCDR1, little endian); what reaches beyond the end is refused with the name of the field.
class CdrReader {
 public:
  CdrReader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {
    if (data == nullptr || size < 4) refuse("the message has " + std::to_string(size) + " bytes: no CDR header");
    if (data[0] != 0 || data[1] != 1)
      refuse("the message's CDR header is " + std::to_string(data[0]) + ", " + std::to_string(data[1]) +
             ", not that of plain little endian CDR: 0, 1");
  }

  template <typename Number>
  Number number(const char* field) {
    static_assert(sizeof(Number) <= 8);
    align(sizeof(Number));
    take(sizeof(Number), field);
    std::uint64_t bits = 0;
    for (std::size_t k = 0; k < sizeof(Number); ++k)
      bits |= static_cast<std::uint64_t>(data_[place_ - sizeof(Number) + k]) << (8 * k);
    if constexpr (sizeof(Number) == 8) {
      Number value;
      std::memcpy(&value, &bits, 8);
      return value;
    } else {
      return static_cast<Number>(bits);
    }
  }

  template <typename Number>
  Numbers<Number> numbers(const char* field) {
    const std::size_t count = number<std::uint32_t>(field);
    if (count == 0) return {};
    align(sizeof(Number));
    if (count > (size_ - std::min(place_, size_)) / sizeof(Number)) refuse(cut_off(field));
    place_ += count * sizeof(Number);
    return Numbers<Number>(data_ + place_ - count * sizeof(Number), count);
  }

  std::string string(const char* field) {
    const std::size_t length = number<std::uint32_t>(field);
    take(length, field);
    if (length == 0) return {};
    const char* first = reinterpret_cast<const char*>(data_ + place_ - length);
    if (first[length - 1] != '\0') refuse(std::string(field) + " does not end with a zero");
    return std::string(first, length - 1);
  }

  Vector vector(const char* field) {
    const double x = number<double>(field), y = number<double>(field), z = number<double>(field);
    return {x, y, z};
  }

  // Ends of messages are padded by at most three bytes.
  void end() const {
    if (size_ - place_ > 3) refuse(std::to_string(size_ - place_) + " bytes follow the message's last field");
  }

 private:
  void align(std::size_t to) { place_ += (to - (place_ - 4) % to) % to; }
  void take(std::size_t count, const char* field) {
    if (place_ > size_ || count > size_ - place_) refuse(cut_off(field));
    place_ += count;
  }
  std::string cut_off(const char* field) const {
    return std::string(field) + " reaches beyond the end of a message of " + std::to_string(size_) + " bytes";
  }

  const std::uint8_t* data_;
  std::size_t size_, place_ = 4;
};

// Messages as their bytes say, with the fields that rosidl's structures have.
struct WireTime {
  std::int32_t sec;
  std::uint32_t nanosec;
};

struct WireVector {
  double x, y, z;
};

struct WireQuaternion {
  double x, y, z, w;
};

struct WireGrid {
  struct {
    WireTime stamp;
    std::string frame_id;
  } header;
  WireTime oldest_image_stamp, newest_image_stamp;
  std::uint64_t sequence;
  std::uint8_t history_frames;
  std::uint64_t cameras_used;
  struct {
    WireVector position;
    WireQuaternion orientation;
  } origin;
  WireVector voxel_size;
  std::uint32_t size_x, size_y, size_z;
  std::uint8_t encoding;
  Numbers<std::uint8_t> occupied, visible, class_id;
  std::uint8_t instance_source;
  Numbers<std::uint16_t> instance_id;
  Numbers<std::uint8_t> confidence;
  std::string label_set;
  std::uint32_t label_set_version;
};

struct WireLabels {
  std::string key;
  std::uint32_t version;
  std::vector<std::string> names;
  Numbers<std::uint8_t> is_thing, rgb;
  std::uint8_t free_id;
};

inline WireTime wire_time(CdrReader& bytes, const char* field) {
  const auto sec = bytes.number<std::int32_t>(field);
  return {sec, bytes.number<std::uint32_t>(field)};
}

inline WireVector wire_vector(CdrReader& bytes, const char* field) {
  const Vector v = bytes.vector(field);
  return {v[0], v[1], v[2]};
}

inline WireGrid wire_grid(const std::uint8_t* data, std::size_t size) {
  CdrReader bytes(data, size);
  WireGrid grid{};
  grid.header.stamp = wire_time(bytes, "header.stamp");
  grid.header.frame_id = bytes.string("header.frame_id");
  grid.oldest_image_stamp = wire_time(bytes, "oldest_image_stamp");
  grid.newest_image_stamp = wire_time(bytes, "newest_image_stamp");
  grid.sequence = bytes.number<std::uint64_t>("sequence");
  grid.history_frames = bytes.number<std::uint8_t>("history_frames");
  grid.cameras_used = bytes.number<std::uint64_t>("cameras_used");
  grid.origin.position = wire_vector(bytes, "origin.position");
  const WireVector turn = wire_vector(bytes, "origin.orientation");
  grid.origin.orientation = {turn.x, turn.y, turn.z, bytes.number<double>("origin.orientation")};
  grid.voxel_size = wire_vector(bytes, "voxel_size");
  grid.size_x = bytes.number<std::uint32_t>("size_x");
  grid.size_y = bytes.number<std::uint32_t>("size_y");
  grid.size_z = bytes.number<std::uint32_t>("size_z");
  grid.encoding = bytes.number<std::uint8_t>("encoding");
  grid.occupied = bytes.numbers<std::uint8_t>("occupied");
  grid.visible = bytes.numbers<std::uint8_t>("visible");
  grid.class_id = bytes.numbers<std::uint8_t>("class_id");
  grid.instance_source = bytes.number<std::uint8_t>("instance_source");
  grid.instance_id = bytes.numbers<std::uint16_t>("instance_id");
  grid.confidence = bytes.numbers<std::uint8_t>("confidence");
  grid.label_set = bytes.string("label_set");
  grid.label_set_version = bytes.number<std::uint32_t>("label_set_version");
  bytes.end();
  return grid;
}

inline WireLabels wire_labels(const std::uint8_t* data, std::size_t size) {
  CdrReader bytes(data, size);
  WireLabels labels{};
  labels.key = bytes.string("key");
  labels.version = bytes.number<std::uint32_t>("version");
  const auto count = bytes.number<std::uint32_t>("names");
  if (count > no_free_id) refuse("names has " + std::to_string(count) + " classes: class ids are 0 to 254");
  for (std::uint32_t i = 0; i < count; ++i) labels.names.push_back(bytes.string("names"));
  labels.is_thing = bytes.numbers<std::uint8_t>("is_thing");
  labels.rgb = bytes.numbers<std::uint8_t>("rgb");
  labels.free_id = bytes.number<std::uint8_t>("free_id");
  bytes.end();
  return labels;
}

}  // namespace detail

// What the class ids of a grid mean.
struct LabelSet {
  std::string key;
  std::uint32_t version = 0;
  std::vector<std::string> names;  // by class id
  std::optional<std::uint8_t> free_id;  // the class that stands for free space, where one does

  // From panoocc/LabelSet.  Throws FormatError.
  template <typename Message>
  static LabelSet from_message(const Message& message) {
    const std::size_t count = message.names.size();
    if (count == 0 || count > detail::no_free_id)
      detail::refuse("names has " + std::to_string(count) + " classes: class ids are 0 to 254");
    bool too_long = message.key.size() > detail::max_name;
    for (const auto& name : message.names) too_long = too_long || name.size() > detail::max_name;
    if (too_long) detail::refuse("key and names must have at most 200 bytes of UTF-8 each");
    if (message.is_thing.size() != count)
      detail::refuse("is_thing has " + std::to_string(message.is_thing.size()) + " flags for " + std::to_string(count) +
                     " names");
    if (message.rgb.size() != 3 * count)
      detail::refuse("rgb has " + std::to_string(message.rgb.size()) + " values for " + std::to_string(count) +
                     " names, not 3 for each");
    if (message.free_id != detail::no_free_id && message.free_id >= count)
      detail::refuse("free_id " + std::to_string(message.free_id) + " is none of the " + std::to_string(count) + " names");
    LabelSet labels;
    labels.key = message.key;
    labels.version = message.version;
    labels.names.assign(message.names.begin(), message.names.end());
    if (message.free_id != detail::no_free_id) labels.free_id = message.free_id;
    return labels;
  }

  // From the bytes of a panoocc/LabelSet in a bag.  Throws FormatError.
  static LabelSet from_cdr(const std::uint8_t* data, std::size_t size) {
    return from_message(detail::wire_labels(data, size));
  }

  // The classes that are ground: no obstacles.
  ClassSet ground() const {
    ClassSet found;
    for (std::size_t i = 0; i < names.size(); ++i)
      for (const char* name : {"driveable_surface", "other_flat", "sidewalk", "terrain", "road", "walkable"})
        if (names[i] == name) found.set(i);
    return found;
  }

  // The ids of classes by their names.  Throws std::invalid_argument where there is no class of a name.
  ClassSet ids(const std::vector<std::string>& wanted) const {
    ClassSet found;
    for (const std::string& name : wanted) {
      std::size_t i = 0;
      while (i < names.size() && names[i] != name) ++i;
      if (i == names.size()) throw std::invalid_argument("label set " + key + " has no class '" + name + "'");
      found.set(i);
    }
    return found;
  }
};

// One grid, a number for every voxel in the order (iz * size_y + iy) * size_x + ix.
struct VoxelGrid {
  std::int64_t stamp_ns = 0;
  std::string label_set;  // what class_id means: key and version of a LabelSet
  std::uint32_t label_set_version = 0;
  std::string frame_id;  // of corner_m and rotation, and of whatever is asked
  std::uint64_t sequence = 0;
  std::array<std::size_t, 3> shape{};  // voxels along x, y, z
  Vector voxel_size_m{};
  Vector corner_m{};  // outer corner of the first voxel
  Rotation rotation{};  // of the grid's axes
  std::vector<std::uint8_t> class_id;
  std::vector<std::uint8_t> confidence;  // 255 * probability; empty where the message has none
  std::vector<std::uint16_t> instance_id;  // 0: none; empty where the message has none
  std::vector<bool> visible;  // whether a camera sees it; empty where the message does not say

  std::size_t index(std::size_t x, std::size_t y, std::size_t z) const { return (z * shape[1] + y) * shape[0] + x; }

  // From panoocc/VoxelGrid and the label set that it names.  Throws FormatError.
  template <typename Message>
  static VoxelGrid from_message(const Message& message, const LabelSet& labels);

  // From the bytes of a panoocc/VoxelGrid in a bag: CDR, little endian.  Throws FormatError.
  static VoxelGrid from_cdr(const std::uint8_t* data, std::size_t size, const LabelSet& labels) {
    return from_message(detail::wire_grid(data, size), labels);
  }
};

namespace detail {

// The values of a field for every voxel; those that a sparse grid does not list get `fill`.
template <typename Number, typename Values>
std::vector<Number> volume(const Values& values, const char* field, std::size_t count, std::size_t listed,
                           const std::vector<bool>& occupied, Number fill) {
  if (values.size() != listed)
    refuse(std::string(field) + " has " + std::to_string(values.size()) + " values, not " + std::to_string(listed));
  std::vector<Number> out(count, fill);
  std::size_t next = 0;
  for (std::size_t i = 0; i < count; ++i)
    if (occupied.empty() || occupied[i]) out[i] = static_cast<Number>(values[next++]);
  return out;
}

// One bit a voxel, least significant first.
template <typename Bytes>
std::vector<bool> bits(const Bytes& bytes, const char* field, std::size_t count) {
  if (bytes.size() != (count + 7) / 8)
    refuse(std::string(field) + " has " + std::to_string(bytes.size()) + " bytes: " + std::to_string(count) +
           " voxels need " + std::to_string((count + 7) / 8));
  if (count % 8 != 0 && static_cast<std::uint8_t>(bytes[bytes.size() - 1]) >> (count % 8) != 0)
    refuse(std::string(field) + " has bits behind that of the last voxel");
  std::vector<bool> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = bytes[i / 8] >> (i % 8) & 1;
  return out;
}

}  // namespace detail

template <typename Message>
VoxelGrid VoxelGrid::from_message(const Message& message, const LabelSet& labels) {
  using detail::refuse;
  if (message.label_set != labels.key || message.label_set_version != labels.version)
    refuse("label_set is '" + message.label_set.substr(0, detail::max_name) + "', version " +
           std::to_string(message.label_set_version) + ", not '" + labels.key + "', version " +
           std::to_string(labels.version));
  if (message.encoding != detail::dense && message.encoding != detail::sparse)
    refuse("encoding " + std::to_string(message.encoding) + " is neither DENSE (0) nor SPARSE (1)");
  const bool is_sparse = message.encoding == detail::sparse;
  const std::uint64_t nx = message.size_x, ny = message.size_y, nz = message.size_z, most = detail::max_grid_voxels;
  if (nx == 0 || ny == 0 || nz == 0 || nx > most || ny > most || nz > most || nx * ny > most || nx * ny * nz > most)
    refuse("size_x, size_y, size_z are " + std::to_string(nx) + ", " + std::to_string(ny) + ", " + std::to_string(nz) +
           ": no voxels, or more than " + std::to_string(most));
  const std::size_t count = static_cast<std::size_t>(nx * ny * nz);
  if (!is_sparse && message.occupied.size() != 0)
    refuse("occupied has " + std::to_string(message.occupied.size()) + " bytes: that of a DENSE grid is empty");
  std::vector<bool> occupied;
  std::size_t listed = count;
  if (is_sparse) {
    occupied = detail::bits(message.occupied, "occupied", count);
    listed = 0;
    for (std::size_t i = 0; i < count; ++i) listed += occupied[i];
    if (!labels.free_id && listed != count)
      refuse("occupied does not have every voxel, and label set '" + labels.key + "' has no class for the others");
  }

  VoxelGrid grid;
  grid.class_id = detail::volume<std::uint8_t>(message.class_id, "class_id", count, listed, occupied,
                                               labels.free_id.value_or(0));
  for (const std::uint8_t id : grid.class_id)
    if (id >= labels.names.size())
      refuse("class_id has " + std::to_string(id) + ": label set '" + labels.key + "' has " +
             std::to_string(labels.names.size()) + " classes");
  if (message.confidence.size() != 0)
    grid.confidence = detail::volume<std::uint8_t>(message.confidence, "confidence", count, listed, occupied, 0);
  if (message.instance_source > detail::instances_truth)
    refuse("instance_source " + std::to_string(message.instance_source) + " is none of VoxelGrid's, 0 to 3");
  if (message.instance_source != detail::instances_none)
    grid.instance_id = detail::volume<std::uint16_t>(message.instance_id, "instance_id", count, listed, occupied, 0);
  else if (message.instance_id.size() != 0)
    refuse("instance_id has " + std::to_string(message.instance_id.size()) +
           " values, and instance_source is INSTANCES_NONE");
  if (message.visible.size() != 0) grid.visible = detail::bits(message.visible, "visible", count);

  grid.voxel_size_m = {message.voxel_size.x, message.voxel_size.y, message.voxel_size.z};
  for (const double edge : grid.voxel_size_m)
    if (!(0 < edge && edge <= detail::max_voxel_m))
      refuse("voxel_size has an edge of " + detail::text(edge) + " m, not a length of up to 100 m");
  const auto& position = message.origin.position;
  const auto& turn = message.origin.orientation;
  grid.corner_m = {position.x, position.y, position.z};
  for (const double place : grid.corner_m)
    if (!(std::abs(place) <= max_distance_m)) refuse("origin is no pose: its position has " + detail::text(place));
  const auto rotation = detail::rotation_rows({turn.x, turn.y, turn.z, turn.w});
  if (!rotation) refuse("origin is no pose: its quaternion has no direction");
  grid.rotation = *rotation;

  grid.shape = {static_cast<std::size_t>(nx), static_cast<std::size_t>(ny), static_cast<std::size_t>(nz)};
  grid.stamp_ns = std::int64_t{1'000'000'000} * message.header.stamp.sec + message.header.stamp.nanosec;
  grid.frame_id = message.header.frame_id;
  grid.sequence = message.sequence;
  grid.label_set = labels.key;
  grid.label_set_version = labels.version;
  return grid;
}

}  // namespace panoocc

#endif  // PANOOCC_VOXEL_GRID_HPP_
