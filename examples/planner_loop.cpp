// The planner of planner_loop.py in C++, on messages as a bag holds them: `planner_loop LABELS.cdr GRID.cdr...`, which
// `planner_loop.py grids.mcap --cdr FOLDER` leaves.  In a node, the callback of a subscription to panoocc/msg/VoxelGrid does
//
//   decide(panoocc::KnownSpace(panoocc::VoxelGrid::from_message(*message, labels), labels, labels.ground()), labels, age_s);
//
// g++ -std=c++17 -O2 -I include examples/planner_loop.cpp -o planner_loop      (or link panoocc::reader with CMake)

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "panoocc/known_space.hpp"

namespace {

// The vehicle in its base_link: x ahead, z up from the ground below the rear axle.
constexpr double front_m = 3.8, width_m = 1.9;
constexpr double low_m = 0.4, high_m = 1.8;  // of what is asked about: above kerbs, below branches
constexpr double blind_m = 2.6;  // ahead of the bumper no camera sees the road: what is unknown there, earlier grids saw
constexpr double braking_mps2 = 2.5, margin_m = 2.0, top_mps = 14.0;
constexpr double reach_m = 40.0;
constexpr double patience_s = 0.5;  // without a grid for so long the vehicle stops
constexpr double bag_age_s = 0.2;  // of a grid in a bag when its decision is made

struct Decision {
  double speed_mps, free_m;  // ahead of the bumper
  std::string reason;
  panoocc::State left, right;
};

// The greatest speed from which the vehicle stops before what is occupied, or not known to be free.  Obstacles count from the
// bumper on.  `age_s` is the time since the grid's stamp: the vehicle has moved since, and goes on until the next grid.
Decision decide(const panoocc::KnownSpace& space, const panoocc::LabelSet& labels, double age_s) {
  const double height = high_m - low_m, middle_m = (low_m + high_m) / 2, start_m = front_m + blind_m;
  const panoocc::OrientedBox bumper{{front_m + 0.25, 0, middle_m}, {0.5, width_m, height}};
  const panoocc::OrientedBox seen{{start_m + 0.25, 0, middle_m}, {0.5, width_m, height}};
  const panoocc::Clearance ahead = space.ahead(bumper, {1, 0, 0}, reach_m);
  const double gap_m = space.ahead(seen, {1, 0, 0}, reach_m - blind_m).unknown_m;
  const double unknown_m = gap_m > 0 ? blind_m + gap_m : 0.0;  // where nothing is seen, nothing was
  const double free_m = std::min({ahead.occupied_m, unknown_m, reach_m});
  std::string reason;
  if (free_m == reach_m) {
    reason = "as far as was asked";
  } else if (unknown_m < ahead.occupied_m) {
    reason = "unknown";
  } else {
    const panoocc::VoxelGrid& grid = space.grid();
    const auto& [x, y, z] = *ahead.obstacle;
    const std::size_t i = grid.index(x, y, z);
    reason = labels.names[grid.class_id[i]];
    if (!grid.instance_id.empty() && grid.instance_id[i] != 0) reason += " " + std::to_string(grid.instance_id[i]);
  }
  // The way while it waits, age_s + patience_s, and the way that it brakes make stop_m.
  const double stop_m = std::max(0.0, free_m - margin_m);
  const double lost_mps = braking_mps2 * (std::max(0.0, age_s) + patience_s);
  const double speed_mps = std::min(top_mps, std::sqrt(lost_mps * lost_mps + 2 * braking_mps2 * stop_m) - lost_mps);
  const panoocc::State left = space.box({{start_m + 2.0, 3.2, middle_m}, {4.0, width_m, height}});
  const panoocc::State right = space.box({{start_m + 2.0, -3.2, middle_m}, {4.0, width_m, height}});
  return {speed_mps, free_m, reason, left, right};
}

const char* name_of(panoocc::State state) {
  return state == panoocc::State::free ? "free" : state == panoocc::State::unknown ? "unknown" : "occupied";
}

std::vector<char> bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string(path) + " cannot be read");
  return std::vector<char>{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

const std::uint8_t* unsigned_of(const std::vector<char>& bytes) {
  return reinterpret_cast<const std::uint8_t*>(bytes.data());
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: planner_loop LABELS.cdr GRID.cdr...\n");
    return 2;
  }
  try {
    const std::vector<char> bytes = bytes_of(arguments[1]);
    const panoocc::LabelSet labels = panoocc::LabelSet::from_cdr(unsigned_of(bytes), bytes.size());
    for (int i = 2; i < count; ++i) {
      const std::vector<char> message = bytes_of(arguments[i]);
      const auto grid = panoocc::VoxelGrid::from_cdr(unsigned_of(message), message.size(), labels);
      const double stamp_s = static_cast<double>(grid.stamp_ns) / 1e9;
      const Decision made = decide(panoocc::KnownSpace(grid, labels, labels.ground()), labels, bag_age_s);
      std::printf("%.3f s  %4.1f m/s: %.1f m ahead, then %s; left %s, right %s\n", stamp_s, made.speed_mps, made.free_m,
                  made.reason.c_str(), name_of(made.left), name_of(made.right));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "planner_loop: %s\n", error.what());
    return 1;
  }
  return 0;
}
