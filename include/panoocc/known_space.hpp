// Is this point, box, ray or path free, occupied or unknown?  The same questions as panoocc_core/planning/known_space.py
// answers, with the same answers: both do the same operations on doubles in the same order.
//
//   panoocc::KnownSpace space(grid, labels.ids({"driveable_surface", "sidewalk", "terrain", "other_flat"}));
//   panoocc::Clearance ahead = space.ahead(footprint, {1, 0, 0}, 30.0);
//
// Coordinates are metres in the frame of the grid's message (grid().frame_id).  Questions that have no answer (numbers that
// are not finite, a box without size, a direction without length) throw std::invalid_argument.

#ifndef PANOOCC_KNOWN_SPACE_HPP_
#define PANOOCC_KNOWN_SPACE_HPP_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "panoocc/voxel_grid.hpp"

namespace panoocc {

// What is known of a place.  Of several, the greatest counts.
enum class State : std::uint8_t { free = 0, unknown = 1, occupied = 2 };

// Whether a camera sees a place; unknown: the grid does not say, or ends before.
enum class Sight : std::uint8_t { unseen = 0, seen = 1, unknown = 2 };

constexpr std::uint8_t no_class = 255;  // beyond the grid
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double touch_m = 1e-9;  // what is nearer than this touches: no rounding may make an answer less cautious

// The voxel that a point lies in.
struct Voxel {
  State state = State::unknown;
  Sight sight = Sight::unknown;
  std::uint8_t class_id = no_class;
  std::uint8_t confidence = 0;  // 255 * probability; 0 where the grid does not say
  std::uint16_t instance_id = 0;  // 0: none
};

// How far something can go.  infinity: as far as was asked.
struct Clearance {
  double occupied_m = infinity;  // until the first occupied voxel
  double unknown_m = infinity;  // until the first unknown one, or the grid's end
  std::optional<std::array<std::size_t, 3>> obstacle;  // x, y, z of that occupied voxel

  // Until anything that is not known to be free.
  double free_m() const { return std::min(occupied_m, unknown_m); }
};

// A box by the pose of its middle, and its edges along its own axes: length, width, height.
struct OrientedBox {
  Vector centre_m;
  Vector size_m;
  Quaternion orientation{0, 0, 0, 1};  // of any length

  // A box that is turned about z alone.
  static OrientedBox turned(const Vector& centre_m, const Vector& size_m, double yaw_rad) {
    return {centre_m, size_m, {0, 0, std::sin(yaw_rad / 2), std::cos(yaw_rad / 2)}};
  }
};

namespace detail {

inline void check_vector(const Vector& values, const char* name) {
  for (const double value : values)
    if (!(std::abs(value) <= max_distance_m))
      throw std::invalid_argument(std::string(name) + " has " + text(value) + ", not numbers of at most 1e8");
}

inline Vector unit(const Vector& direction) {
  check_vector(direction, "direction");
  const double length = std::sqrt(dot(direction, direction));
  if (length < 1e-9) throw std::invalid_argument("direction has no length");
  return {direction[0] / length, direction[1] / length, direction[2] / length};
}

inline void check_reach(double reach_m) {
  if (!(0 < reach_m && reach_m <= max_distance_m))
    throw std::invalid_argument("reach_m is " + text(reach_m) + ", not a distance of up to 1e8");
}

// A box in the axes of a grid, and the way that it goes: straight on, without turning.
struct MovingBox {
  Vector centre_m, half_m;
  Rotation axes;  // axes[j]: the box's axis j in the grid's axes
  Vector direction;  // of length 1; 0, 0, 0 for a box that stands
  double reach_m;

  double extent_m(std::size_t i) const {
    return times(half_m[0], std::abs(axes[0][i])) + times(half_m[1], std::abs(axes[1][i])) +
           times(half_m[2], std::abs(axes[2][i]));
  }

  // Two boxes are apart exactly where one of 15 directions parts them: the axes of both, and products of one of each.
  std::array<Vector, 15> parting_lines() const {
    std::array<Vector, 15> lines{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
    for (std::size_t j = 0; j < 3; ++j) {
      const Vector& axis = axes[j];
      lines[3 + j] = axis;
      lines[6 + j] = {0.0, -axis[2], axis[1]};
      lines[9 + j] = {axis[2], 0.0, -axis[0]};
      lines[12 + j] = {-axis[1], axis[0], 0.0};
    }
    return lines;
  }
};

// A grid need not come out of a message: nothing may be read beyond its arrays.
inline void check_grid(const VoxelGrid& grid, const LabelSet& labels) {
  const auto no_grid = [](const std::string& what) { throw std::invalid_argument(what); };
  if (grid.label_set != labels.key || grid.label_set_version != labels.version)
    no_grid("the grid is of label_set '" + grid.label_set + "', version " + std::to_string(grid.label_set_version) +
            ", not '" + labels.key + "', version " + std::to_string(labels.version));
  std::size_t count = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    if (grid.shape[i] == 0 || grid.shape[i] > max_grid_voxels / count)
      no_grid("shape has no voxels, or more than " + std::to_string(max_grid_voxels));
    count *= grid.shape[i];
    if (!(0 < grid.voxel_size_m[i] && grid.voxel_size_m[i] <= max_voxel_m))
      no_grid("voxel_size_m has an edge of " + text(grid.voxel_size_m[i]) + " m, not a length of up to 100 m");
    for (const double value : grid.rotation[i])
      if (!(std::abs(value) <= 1 + 1e-6)) no_grid("rotation has " + text(value));
  }
  check_vector(grid.corner_m, "corner_m");
  const auto fits = [&](std::size_t size, const char* name, bool may_be_empty) {
    if (size != count && !(may_be_empty && size == 0))
      no_grid(std::string(name) + " has " + std::to_string(size) + " values, not " + std::to_string(count));
  };
  fits(grid.class_id.size(), "class_id", false);
  fits(grid.confidence.size(), "confidence", true);
  fits(grid.instance_id.size(), "instance_id", true);
  fits(grid.visible.size(), "visible", true);
  for (const std::uint8_t id : grid.class_id)
    if (id >= labels.names.size()) no_grid("class_id has " + std::to_string(id) + ", which '" + labels.key + "' lacks");
}

// What is the same for every voxel along one of these directions.
struct Parting {
  Vector line;
  double speed, sum_m;
};

}  // namespace detail

// A voxel grid as a planner sees it.
//
// A voxel is occupied by any class but free and those of `ignored`, whether or not a camera sees it; else free where a camera
// sees it, and unknown where none does.  What lies outside the grid is unknown.  A grid that does not say what is visible
// has nothing that is free, unless `trust_unseen` is set: then the network's word that a voxel is free is taken also where
// no camera is known to see it.  Throws std::invalid_argument where the grid contradicts itself or is of other labels.
class KnownSpace {
 public:
  KnownSpace(VoxelGrid grid, const LabelSet& labels, ClassSet ignored = {}, bool trust_unseen = false)
      : grid_(std::move(grid)) {
    detail::check_grid(grid_, labels);
    for (std::size_t id = labels.names.size(); id < ignored.size(); ++id)
      if (ignored[id])
        throw std::invalid_argument("ignored has class " + std::to_string(id) + ": " + labels.key + " has 0.." +
                                    std::to_string(labels.names.size() - 1));
    if (labels.free_id) ignored.set(*labels.free_id);
    state_.resize(grid_.class_id.size());
    for (std::size_t i = 0; i < state_.size(); ++i) {
      const bool is_clear = trust_unseen || (!grid_.visible.empty() && grid_.visible[i]);
      state_[i] = !ignored[grid_.class_id[i]] ? State::occupied : is_clear ? State::free : State::unknown;
    }
  }

  const VoxelGrid& grid() const { return grid_; }

  // The voxel of a point.
  Voxel at(const Vector& point_m) const {
    detail::check_vector(point_m, "point_m");
    const Vector local = in_grid(point_m);
    std::array<double, 3> place;
    for (std::size_t i = 0; i < 3; ++i) place[i] = std::floor(local[i] / grid_.voxel_size_m[i]);
    Voxel voxel;
    if (!is_inside(place)) return voxel;
    const std::size_t i = index(place);
    voxel.state = state_[i];
    if (!grid_.visible.empty()) voxel.sight = grid_.visible[i] ? Sight::seen : Sight::unseen;
    voxel.class_id = grid_.class_id[i];
    if (!grid_.confidence.empty()) voxel.confidence = grid_.confidence[i];
    if (!grid_.instance_id.empty()) voxel.instance_id = grid_.instance_id[i];
    return voxel;
  }

  // What is known of a box: the greatest state of every voxel that it touches.
  State box(const OrientedBox& box) const {
    const Clearance found = sweep(moving(box, {0, 0, 0}, 0));
    if (found.occupied_m == 0) return State::occupied;
    return found.unknown_m == 0 ? State::unknown : State::free;
  }

  // How far a box can go straight on, without turning; 0 where it touches something already.
  Clearance ahead(const OrientedBox& footprint, const Vector& direction, double reach_m) const {
    detail::check_reach(reach_m);
    return sweep(moving(footprint, detail::unit(direction), reach_m));
  }

  // How far a ray goes until it enters an occupied voxel, and an unknown one.
  Clearance along(const Vector& origin_m, const Vector& direction, double reach_m) const {
    detail::check_reach(reach_m);
    detail::check_vector(origin_m, "origin_m");
    const Vector start = in_grid(origin_m), step = turned(detail::unit(direction));
    std::vector<double> ends{0.0, reach_m};
    for (std::size_t i = 0; i < 3; ++i) {
      if (step[i] == 0) continue;
      for (std::size_t k = 0; k <= grid_.shape[i]; ++k) {
        const double at_m = (detail::times(static_cast<double>(k), grid_.voxel_size_m[i]) - start[i]) / step[i];
        if (at_m > 0 && at_m < reach_m) ends.push_back(at_m);
      }
    }
    std::sort(ends.begin(), ends.end());
    Clearance found;
    for (std::size_t j = 0; j + 1 < ends.size(); ++j) {
      if (ends[j] == ends[j + 1]) continue;  // through an edge: in no voxel
      const double middle_m = (ends[j] + ends[j + 1]) / 2;
      std::array<double, 3> place;
      for (std::size_t i = 0; i < 3; ++i)
        place[i] = std::floor((start[i] + detail::times(middle_m, step[i])) / grid_.voxel_size_m[i]);
      const State state = is_inside(place) ? state_[index(place)] : State::unknown;
      if (state == State::unknown) found.unknown_m = std::min(found.unknown_m, ends[j]);
      if (state != State::occupied || found.obstacle) continue;
      found.occupied_m = ends[j];
      found.obstacle = {static_cast<std::size_t>(place[0]), static_cast<std::size_t>(place[1]),
                        static_cast<std::size_t>(place[2])};
    }
    return found;
  }

 private:
  bool is_inside(const std::array<double, 3>& place) const {
    for (std::size_t i = 0; i < 3; ++i)
      if (!(place[i] >= 0 && place[i] < static_cast<double>(grid_.shape[i]))) return false;
    return true;
  }

  std::size_t index(const std::array<double, 3>& place) const {
    return grid_.index(static_cast<std::size_t>(place[0]), static_cast<std::size_t>(place[1]),
                       static_cast<std::size_t>(place[2]));
  }

  // A direction of the message's frame in the axes of the grid.
  Vector turned(const Vector& direction) const {
    return {detail::dot(direction, detail::column(grid_.rotation, 0)),
            detail::dot(direction, detail::column(grid_.rotation, 1)),
            detail::dot(direction, detail::column(grid_.rotation, 2))};
  }

  Vector in_grid(const Vector& point_m) const {
    return turned({point_m[0] - grid_.corner_m[0], point_m[1] - grid_.corner_m[1], point_m[2] - grid_.corner_m[2]});
  }

  detail::MovingBox moving(const OrientedBox& box, const Vector& direction, double reach_m) const {
    detail::check_vector(box.centre_m, "centre_m");
    detail::check_vector(box.size_m, "size_m");
    if (!(box.size_m[0] > 0 && box.size_m[1] > 0 && box.size_m[2] > 0))
      throw std::invalid_argument("size_m has an edge that is not positive");
    const auto turn = detail::rotation_rows(box.orientation);
    if (!turn) throw std::invalid_argument("orientation is a quaternion without direction");
    const Rotation axes{turned(detail::column(*turn, 0)), turned(detail::column(*turn, 1)),
                        turned(detail::column(*turn, 2))};
    const Vector half_m{box.size_m[0] / 2, box.size_m[1] / 2, box.size_m[2] / 2};
    return {in_grid(box.centre_m), half_m, axes, turned(direction), reach_m};
  }

  // How far a box goes until a part of it is outside the grid.
  double leaves_m(const detail::MovingBox& box) const {
    double first = infinity;
    for (std::size_t i = 0; i < 3; ++i) {
      const double extent = box.extent_m(i), step = box.direction[i];
      const double end_m = detail::times(static_cast<double>(grid_.shape[i]), grid_.voxel_size_m[i]);
      const double below = box.centre_m[i] - extent - touch_m, above = end_m - (box.centre_m[i] + extent + touch_m);
      if (below < 0 || above < 0) return 0;
      if (step != 0) first = std::min(first, step > 0 ? above / step : below / -step);
    }
    return first <= box.reach_m ? first : infinity;
  }

  Clearance sweep(const detail::MovingBox& box) const {
    const Vector& size = grid_.voxel_size_m;
    Clearance found;
    found.unknown_m = leaves_m(box);
    std::array<std::size_t, 3> low, high;  // one past the last
    for (std::size_t i = 0; i < 3; ++i) {
      const double extent = box.extent_m(i), n = static_cast<double>(grid_.shape[i]);
      const double centre = box.centre_m[i], end = centre + detail::times(box.reach_m, box.direction[i]);
      const double first = std::floor((std::min(centre, end) - extent - touch_m) / size[i]);
      const double last = std::floor((std::max(centre, end) + extent + touch_m) / size[i]);
      low[i] = static_cast<std::size_t>(std::clamp(first, 0.0, n));
      high[i] = static_cast<std::size_t>(std::clamp(last + 1, 0.0, n));
    }
    const auto partings = partings_of(box);
    for (std::size_t z = low[2]; z < high[2]; ++z)
      for (std::size_t y = low[1]; y < high[1]; ++y)
        for (std::size_t x = low[0]; x < high[0]; ++x) {
          const State state = state_[grid_.index(x, y, z)];
          if (state == State::free) continue;
          const double at_m = touches_m(box, partings, {x, y, z});
          if (state == State::unknown) {
            found.unknown_m = std::min(found.unknown_m, at_m);
          } else if (at_m < found.occupied_m) {
            found.occupied_m = at_m;
            found.obstacle = {x, y, z};
          }
        }
    return found;
  }

  std::array<detail::Parting, 15> partings_of(const detail::MovingBox& box) const {
    const Vector half_voxel{grid_.voxel_size_m[0] / 2, grid_.voxel_size_m[1] / 2, grid_.voxel_size_m[2] / 2};
    const auto lines = box.parting_lines();
    std::array<detail::Parting, 15> found;
    for (std::size_t k = 0; k < lines.size(); ++k) {
      const Vector& line = lines[k];
      Vector own, theirs;
      for (std::size_t i = 0; i < 3; ++i) {
        own[i] = detail::times(box.half_m[i], std::abs(detail::dot(box.axes[i], line)));
        theirs[i] = detail::times(half_voxel[i], std::abs(line[i]));
      }
      const double sum_m = (own[0] + own[1] + own[2]) + (theirs[0] + theirs[1] + theirs[2]) + touch_m;
      found[k] = {line, detail::dot(box.direction, line), sum_m};
    }
    return found;
  }

  // How far the box goes until it touches a voxel.  Along each parting line they overlap from one distance to another; they
  // touch where all these intervals overlap.
  double touches_m(const detail::MovingBox& box, const std::array<detail::Parting, 15>& partings,
                   const std::array<std::size_t, 3>& place) const {
    Vector gap;  // of the middles
    for (std::size_t i = 0; i < 3; ++i)
      gap[i] = detail::times(static_cast<double>(place[i]) + 0.5, grid_.voxel_size_m[i]) - box.centre_m[i];
    double first = 0, last = box.reach_m;
    for (const detail::Parting& parting : partings) {
      const double along = detail::dot(gap, parting.line);
      if (parting.speed == 0) {
        if (std::abs(along) > parting.sum_m) return infinity;
        continue;
      }
      double enter = (along - parting.sum_m) / parting.speed, leave = (along + parting.sum_m) / parting.speed;
      if (parting.speed < 0) std::swap(enter, leave);
      first = std::max(first, enter);
      last = std::min(last, leave);
    }
    return first <= last ? first : infinity;
  }

  VoxelGrid grid_;
  std::vector<State> state_;
};

}  // namespace panoocc

#endif  // PANOOCC_KNOWN_SPACE_HPP_
