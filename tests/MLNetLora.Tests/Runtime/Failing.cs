using System.Reflection;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>Makes native calls fail.</summary>
internal static class Failing
{
    /// <summary>Makes every native call of an action fail once: first the first, then the second, until it gets through.</summary>
    /// <param name="error">What the call throws, by its kind.</param>
    /// <param name="action">What is tried; must give back what it took.</param>
    /// <returns>How the tries ended but the last, which was whole.</returns>
    public static List<Exception> AtEveryCall(Func<string, Exception> error, Action action)
    {
        List<Exception> ends = [];
        NativeCounts before = NativeCounts.Settled();
        while (true)
        {
            int calls = 0;
            NativeCalls.Before = kind =>
            {
                if (calls++ == ends.Count)
                {
                    throw error(kind);
                }
            };
            try
            {
                action();
                Assert.Equal(ends.Count, calls);
                return ends;
            }
            catch (Exception e) when (e is not Xunit.Sdk.XunitException)
            {
                ends.Add(e);
            }
            finally
            {
                NativeCalls.Before = null;
            }

            Assert.True(NativeCounts.Now == before, $"call {ends.Count} failed with '{ends[^1].Message}' and left {NativeCounts.Now} instead of {before}");
        }
    }

    /// <summary>An error as the runtime gives it.</summary>
    public static OnnxRuntimeException Runtime(string message) =>
        (OnnxRuntimeException)Activator.CreateInstance(typeof(OnnxRuntimeException), BindingFlags.Instance | BindingFlags.NonPublic, null,
            [Enum.ToObject(typeof(OnnxRuntimeException).Assembly.GetType("Microsoft.ML.OnnxRuntime.ErrorCode")!, 1), message], null)!;
}
