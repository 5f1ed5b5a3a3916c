namespace MLNetLora.Tests;

/// <summary>Tests that measure or change what the whole process shares (memory, environment variables): they run when no other test does.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class Alone
{
    public const string Name = "Alone";
}
