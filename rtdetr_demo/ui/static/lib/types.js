/**
 * The nouns that the page's modules share. Only types: nothing in here runs.
 *
 * @typedef {Object} LayerPredictions
 * Candidates of one decoder layer, best first, as `Predictions.for_browser` of Python gives them.
 * @property {number[]} scores  0 to 1, descending
 * @property {number[]} labels  indices into the predictions' `classes`
 * @property {number[]} queries  which of the decoder's queries said it
 * @property {number[]} boxes  flat: xmin, ymin, xmax, ymax of each, in pixels of the picture
 *
 * @typedef {Object} Predictions
 * What a detector said about one picture.
 * @property {string} checkpoint
 * @property {string[]} classes
 * @property {number} width  of the picture, in pixels
 * @property {number} height
 * @property {LayerPredictions[]} layers  index 0 is decoder layer `first`
 * @property {number} [first]  1 unless the layers before were not asked for
 * @property {{total: number, wait?: number, server?: number}} [timing_ms]
 *
 * @typedef {Object} Detection
 * @property {string} label
 * @property {number} classId
 * @property {number} score
 * @property {number} query
 * @property {string} key  the same for the same query (and its 2nd, 3rd label) in every layer
 * @property {number} x  left, in pixels of the picture, cut at its edges
 * @property {number} y
 * @property {number} width
 * @property {number} height
 *
 * @typedef {Object} Settings
 * What a result was made with; every view, download and snippet reads them here.
 * @property {string} checkpoint
 * @property {number | null} queries  null: as many as the checkpoint has
 * @property {number | null} size  side of the input in pixels; null: the checkpoint's own
 * @property {string} runtime  what ran it, for people: "OpenVINO", "this device, WebAssembly"
 * @property {boolean} [own]  whether the visitor's own device ran it
 *
 * @typedef {Object} PhotoSource
 * A picture to detect in: exactly one of these.
 * @property {string} [example]  name of an example
 * @property {string} [url]  an address
 * @property {File} [file]  what a visitor dropped, pasted, chose or took
 *
 * @typedef {Object} ShapeLimits
 * @property {[number, number]} queries  least and most
 * @property {[number, number]} size
 * @property {{queries: number, size: number}} own
 *
 * @typedef {Object} Result
 * Predictions, the picture that they are of, and how they were made. Never changed once made.
 * @property {Predictions} predictions
 * @property {PhotoSource | null} source  null: a camera's or a video's frame
 * @property {string} title  the picture's name, for people
 * @property {string | null} picture  an address that <img> takes; null: the source element shows it
 * @property {Record<string, [string, string]>} colors  of each class: its colour, and of text on it
 * @property {Settings} settings
 * @property {number} depth  how many decoder layers the checkpoint has
 * @property {string | null} id  the detector's own name for it, where it keeps it
 * @property {ShapeLimits} [limits]
 * @property {string | null} [note]  what people should know of the picture, such as that its end is
 *   missing
 *
 * @typedef {Object} Latency
 * What one pass costs where it runs.
 * @property {string} device  "cpu", "cuda:0"; "device": the visitor's own
 * @property {string} runtime
 * @property {string} precision
 * @property {[number, number]} size
 * @property {number[]} total_ms  by depth (index 0: one layer), from picture to detections
 * @property {number[]} [spread_ms]  by depth: how far apart passes lie
 * @property {boolean[]} [within_noise]  by depth: whether what it saves is too small to tell
 * @property {Record<string, number>} [stages_ms]  in order: preprocess, backbone, encoder,
 *   "decoder layer 1" and so on, postprocess
 * @property {string} [from]  where it is not measured here: what it was read from
 *
 * @typedef {Object} Download
 * @property {string} checkpoint
 * @property {boolean} running
 * @property {number} done  bytes
 * @property {number} total
 * @property {string} error
 *
 * @typedef {Object} Status
 * @property {string} checkpoint  whose status it is
 * @property {string} serving  what serves when nobody chooses
 * @property {string} wanted
 * @property {boolean} missing  whether the wanted one does not serve yet
 * @property {string} notice
 * @property {boolean} searching
 * @property {number} threshold  that suits the checkpoint
 * @property {boolean} here
 * @property {boolean} measuring
 * @property {Latency | null} latency
 * @property {Download | null} download
 *
 * @typedef {Object} CheckpointInfo
 * @property {string} id
 * @property {string} title
 * @property {string} trained_on
 * @property {number | null} decoder_layers
 * @property {number} threshold
 * @property {Record<string, number | null>} published
 * @property {{ap: number[], ms: number[]} | null} measured  by depth, as its model card reports
 * @property {string | null} [faithfulness]  whether its detections rest on what they looked at
 *
 * @typedef {Object} Example
 * @property {string} name
 * @property {string} title
 * @property {boolean} hard  for the bundled checkpoint
 * @property {number} width
 * @property {number} height
 * @property {string} picture  relative to the page's files
 * @property {string} predictions
 * @property {string} inspection
 * @property {string} thumbnail
 * @property {string} checkpoint
 *
 * @typedef {Object} DeviceModel
 * A checkpoint for the visitor's own device.
 * @property {string} manifest  address of its manifest, relative to the page's files
 * @property {Record<string, [string, string]>} colors  as in `Result`
 *
 * @typedef {Object} PageConfig
 * All that the page knows when it starts.
 * @property {CheckpointInfo[]} checkpoints
 * @property {Example[]} examples
 * @property {Predictions & {colors: Record<string, [string, string]>}} first  of the first example
 * @property {boolean} [anyCheckpoint]
 * @property {string} [apiAccess]  "open", "keys" or "closed"; absent where there is no API
 * @property {{pictureBytes: number, videoBytes: number, videoMinutes: number}} [limits]
 * @property {string} serving
 * @property {string} wanted
 * @property {("server" | "device")[]} runtimes  what can detect here, the default first
 * @property {"server" | "device"} [liveRuntime]  what a camera begins with
 * @property {Record<string, string | number>} [machine]  that the server runs on, and its versions
 * @property {Record<string, DeviceModel>} [deviceModels]  by checkpoint, where they lie ready
 *
 * @typedef {Object} State
 * All that the page shows follows from this.
 * @property {"photo" | "camera" | "video"} source
 * @property {Result | null} result
 * @property {number} depth  decoder layers shown
 * @property {number} threshold
 * @property {boolean} thresholdChosen  by the visitor; else it follows the checkpoint
 * @property {ReadonlySet<string>} hidden  classes that are not shown
 * @property {boolean} hideDuplicates
 * @property {number | null} compare  the depth on the left of the divider
 * @property {number} split  where the divider is, 0 to 1
 * @property {string | null} hovered  key of a detection
 * @property {string | null} selected
 * @property {string} view  below the stage
 * @property {string} checkpoint  that the visitor chose; "": whatever serves
 * @property {number | null} queries
 * @property {number | null} size
 * @property {"server" | "device"} runtime
 * @property {boolean} runtimeChosen  by the visitor; else it follows the source
 * @property {Status | null} status
 * @property {boolean} playing  whether the depths are being stepped through
 * @property {File | null} pendingVideo  a clip that waits for the video source to take it
 * @property {import("./clip.js").Clip | null} video  the clip on the stage
 * @property {import("./live.js").Figures | null} live  what the camera's frames take; null: no camera
 * @property {string} busy  what is under way, for people; "": nothing
 * @property {string} problem  a sentence; "": none
 *
 * @typedef {Object} App
 * What every component gets.
 * @property {import("./store.js").Store<State>} store
 * @property {PageConfig} config
 * @property {import("./actions.js").Actions} actions
 * @property {() => import("./detector.js").Detector} detector  the one that `state.runtime` names
 * @property {import("./rpc.js").Rpc | null} rpc  the server's other functions; null: there is none
 * @property {(path: string) => string} asset  the address of one of the page's files
 */

export {};
