using MLNetLora.Quantization;

namespace MLNetLora.Bench;

/// <summary>What a load test asks for.</summary>
/// <param name="Minutes">How long the traffic lasts.</param>
/// <param name="AtOnce">Clients; each has one request under way at a time, some for a moment a few dozen.</param>
/// <param name="Ours">Services that run already, http://…#MODEL; empty starts <paramref name="Replicas"/> of the sample.</param>
/// <param name="Pids">Their processes, for memory and for the end.</param>
/// <param name="Key">Their API key; null for none.</param>
/// <param name="Replicas">How many services are started.</param>
/// <param name="Service">The service's assembly; null for the sample's.</param>
/// <param name="Model">Checkpoint folder that is served.</param>
/// <param name="Precision">How its weights are held.</param>
/// <param name="Drain">Whether the services get SIGTERM at the end, under load.</param>
/// <param name="Rolling">Whether the services are restarted one after another all the time.</param>
/// <param name="Seed">Of the traffic.</param>
/// <param name="Folder">Where models, adapters and logs are written; a new one for each run.</param>
internal sealed record SoakSetting(
    double Minutes,
    int AtOnce,
    string[] Ours,
    int[] Pids,
    string? Key,
    int Replicas,
    string? Service,
    string Model,
    WeightPrecision Precision,
    bool Drain,
    bool Rolling,
    int Seed,
    string Folder);

/// <summary>A name that is asked for, and which weights may answer under it.</summary>
/// <param name="Name">In the field model.</param>
/// <param name="Weights">Whose answers, asked for alone, are right: one of them, whole.</param>
/// <param name="MayBeMissing">Whether 404 is right as well.</param>
internal sealed record SoakTarget(string Name, string[] Weights, bool MayBeMissing);
