// Reads questions from its input, one a line, and writes an answer to each; `reader.py` beside it speaks the same lines.
// With -DWITH_ROSIDL grids and label sets take the way through rosidl's structures.

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "panoocc/known_space.hpp"
#ifdef WITH_ROSIDL
#include "panoocc/msg/label_set.hpp"
#include "panoocc/msg/voxel_grid.hpp"
#endif

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return Bytes(text.begin(), text.end());
}

#ifdef WITH_ROSIDL
template <typename To, typename From>
void copy_all(To& to, const From& from) {
  for (std::size_t i = 0; i < from.size(); ++i) to.push_back(static_cast<typename To::value_type>(from[i]));
}

panoocc::LabelSet labels_of(const Bytes& bytes) {
  const auto wire = panoocc::detail::wire_labels(bytes.data(), bytes.size());
  panoocc::msg::LabelSet message;
  message.key = wire.key;
  message.version = wire.version;
  message.names = wire.names;
  copy_all(message.is_thing, wire.is_thing);
  copy_all(message.rgb, wire.rgb);
  message.free_id = wire.free_id;
  return panoocc::LabelSet::from_message(message);
}

panoocc::VoxelGrid grid_of(const Bytes& bytes, const panoocc::LabelSet& labels) {
  const auto wire = panoocc::detail::wire_grid(bytes.data(), bytes.size());
  panoocc::msg::VoxelGrid message;
  message.header.stamp.sec = wire.header.stamp.sec;
  message.header.stamp.nanosec = wire.header.stamp.nanosec;
  message.header.frame_id = wire.header.frame_id;
  message.sequence = wire.sequence;
  message.origin.position.x = wire.origin.position.x;
  message.origin.position.y = wire.origin.position.y;
  message.origin.position.z = wire.origin.position.z;
  message.origin.orientation.x = wire.origin.orientation.x;
  message.origin.orientation.y = wire.origin.orientation.y;
  message.origin.orientation.z = wire.origin.orientation.z;
  message.origin.orientation.w = wire.origin.orientation.w;
  message.voxel_size.x = wire.voxel_size.x;
  message.voxel_size.y = wire.voxel_size.y;
  message.voxel_size.z = wire.voxel_size.z;
  message.size_x = wire.size_x;
  message.size_y = wire.size_y;
  message.size_z = wire.size_z;
  message.encoding = wire.encoding;
  copy_all(message.occupied, wire.occupied);
  copy_all(message.visible, wire.visible);
  copy_all(message.class_id, wire.class_id);
  message.instance_source = wire.instance_source;
  copy_all(message.instance_id, wire.instance_id);
  copy_all(message.confidence, wire.confidence);
  message.label_set = wire.label_set;
  message.label_set_version = wire.label_set_version;
  return panoocc::VoxelGrid::from_message(message, labels);
}
#else
panoocc::LabelSet labels_of(const Bytes& bytes) { return panoocc::LabelSet::from_cdr(bytes.data(), bytes.size()); }

panoocc::VoxelGrid grid_of(const Bytes& bytes, const panoocc::LabelSet& labels) {
  return panoocc::VoxelGrid::from_cdr(bytes.data(), bytes.size(), labels);
}
#endif

// Words of a line; numbers in any form that strtod reads, such as 0x1.8p+1.
class Words {
 public:
  explicit Words(const std::string& line) : stream_(line) {}
  std::string word() {
    std::string found;
    if (!(stream_ >> found)) throw std::runtime_error("the question is too short");
    return found;
  }
  std::string rest() {
    std::string found;
    std::getline(stream_ >> std::ws, found);
    return found;
  }
  double number() { return std::strtod(word().c_str(), nullptr); }
  panoocc::Vector vector() {
    const double x = number(), y = number(), z = number();
    return {x, y, z};
  }
  panoocc::OrientedBox box() {
    const panoocc::Vector centre = vector(), size = vector(), turn = vector();
    return {centre, size, {turn[0], turn[1], turn[2], number()}};
  }

 private:
  std::istringstream stream_;
};

void print(const panoocc::Clearance& found) {
  std::printf("%a %a", found.occupied_m, found.unknown_m);
  if (found.obstacle) std::printf(" %zu %zu %zu", (*found.obstacle)[0], (*found.obstacle)[1], (*found.obstacle)[2]);
  std::printf("\n");
}

void answer(const std::string& kind, Words& words, const panoocc::KnownSpace& space) {
  if (kind == "at") {
    const panoocc::Voxel found = space.at(words.vector());
    std::printf("%d %d %d %d %d\n", static_cast<int>(found.state), static_cast<int>(found.sight), found.class_id,
                found.confidence, found.instance_id);
  } else if (kind == "box") {
    std::printf("%d\n", static_cast<int>(space.box(words.box())));
  } else if (kind == "ahead") {
    const panoocc::OrientedBox box = words.box();
    const panoocc::Vector direction = words.vector();
    print(space.ahead(box, direction, words.number()));
  } else if (kind == "along") {
    const panoocc::Vector origin = words.vector(), direction = words.vector();
    print(space.along(origin, direction, words.number()));
  } else {
    throw std::runtime_error("no such question: " + kind);
  }
}

panoocc::ClassSet ignored_of(const std::string& names, const panoocc::LabelSet& labels) {
  if (names == "@ground") return labels.ground();
  std::vector<std::string> wanted;
  std::istringstream stream(names);
  for (std::string name; std::getline(stream, name, ',');)
    if (name != "-") wanted.push_back(name);
  return labels.ids(wanted);
}

// The same grid many times, damaged: of each what was made of it.
void answer_damaged(const Bytes& labels_bytes, const Bytes& all) {
  const panoocc::LabelSet labels = labels_of(labels_bytes);
  for (std::size_t place = 0; place + 4 <= all.size();) {
    std::size_t size = 0;
    for (std::size_t k = 0; k < 4; ++k) size |= static_cast<std::size_t>(all[place + k]) << (8 * k);
    place += 4;
    // A block of its own, so that a reader that goes too far is caught.
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(place);
    const Bytes bytes(first, first + static_cast<std::ptrdiff_t>(size));
    place += size;
    try {
      const panoocc::KnownSpace space(grid_of(bytes, labels), labels);
      const panoocc::OrientedBox box{{0.5, -0.5, 0.75}, {1.0, 0.5, 0.5}, {0.1, 0.2, 0.3, 0.9}};
      std::printf("%d %d ", static_cast<int>(space.at({0.3, 0.2, 0.1}).state), static_cast<int>(space.box(box)));
      print(space.along({0, 0, 0}, {1, 0.5, 0.25}, 20));
    } catch (const panoocc::FormatError&) {
      std::printf("refused\n");
    }
  }
}

// A grid with one field that does not fit the others.
panoocc::VoxelGrid unfit(panoocc::VoxelGrid grid, const std::string& field) {
  if (field == "class_id") grid.class_id.pop_back();
  if (field == "class_id has 200") grid.class_id.back() = 200;
  if (field == "confidence") grid.confidence.assign(1, 0);
  if (field == "instance_id") grid.instance_id.assign(1, 0);
  if (field == "visible") grid.visible.assign(1, true);
  if (field == "shape") grid.shape = {std::size_t{1} << 40, std::size_t{1} << 40, 1};
  if (field == "voxel_size_m") grid.voxel_size_m[1] = 0;
  if (field == "corner_m") grid.corner_m[2] = std::nan("");
  if (field == "rotation") grid.rotation[0][0] = std::nan("");
  if (field == "label_set") grid.label_set_version += 1;
  return grid;
}

}  // namespace

int main() {
  std::unique_ptr<panoocc::KnownSpace> space;
  for (std::string line; std::getline(std::cin, line);) {
    Words words(line);
    const std::string kind = words.word();
    try {
      if (kind == "damaged") {
        const Bytes labels = read_file(words.word());
        answer_damaged(labels, read_file(words.word()));
      } else if (kind == "grid") {
        space.reset();
        const panoocc::LabelSet labels = labels_of(read_file(words.word()));
        const panoocc::VoxelGrid grid = grid_of(read_file(words.word()), labels);
        const bool trust_unseen = words.number() != 0;
        space = std::make_unique<panoocc::KnownSpace>(grid, labels, ignored_of(words.word(), labels), trust_unseen);
        std::printf("%" PRId64 " %s %zu %zu %zu\n", grid.stamp_ns, grid.frame_id.c_str(), grid.shape[0], grid.shape[1],
                    grid.shape[2]);
      } else if (kind == "unfit") {
        const panoocc::LabelSet labels = labels_of(read_file(words.word()));
        const panoocc::VoxelGrid grid = grid_of(read_file(words.word()), labels);
        const panoocc::KnownSpace wrong(unfit(grid, words.rest()), labels);
        std::printf("taken\n");
      } else if (space) {
        answer(kind, words, *space);
      } else {
        std::printf("no grid\n");
      }
    } catch (const panoocc::FormatError& error) {
      std::printf("refused %s\n", error.what());
    } catch (const std::invalid_argument& error) {
      std::printf("invalid %s\n", error.what());
    }
  }
  return 0;
}
